"""Several simulated replicas behind a proxy: who gets a request, and that none is lost when a replica dies."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from fleet import BALANCERS, Balancer, chooser, serve_fleet
from sfsc_service.engine.batch_plan import Capacity
from sfsc_service.engine.costs import CostTable, Measured
from sfsc_service.engine.policy import Budget, WidthCatalog
from sfsc_service.engine.scheduler import Scheduler
from simulation import Events, Replica, Request, Served

MS = {"0.25": 1.0, "1.0": 10.0}
CATALOG = WidthCatalog(
    tuple(MS),
    gflops=dict.fromkeys(MS, 1.0),
    mean_ap={"0.25": {"1.0": 70.0}, "1.0": {"1.0": 80.0}},
    mixed_gap=dict.fromkeys(MS, 0.0),
    floor="0.25",
)


class Fleet:
    """Makes replicas with one worker and remembers them; the first takes `slow` times as long as measured."""

    def __init__(self, slow: float = 1.0) -> None:
        self.slow = slow
        self.replicas: list[Replica] = []

    def make(self, events: Events, number: int) -> Replica:
        table = CostTable(tuple(MS), 8)
        for width, ms in MS.items():
            for images in (1, 8):
                table.set_measured(width, images, Measured(ms * images, ms * images))
        factor = self.slow if number == 0 else 1.0
        capacity = Capacity(workers=1, max_batch=8, max_batch_ms=50.0)
        self.replicas.append(
            Replica(events, CATALOG, Scheduler(table, capacity), lambda w, n: factor * MS[w] * n, 100.0, 0.5)
        )
        return self.replicas[-1]


def every(seconds: float, count: int) -> list[Request]:
    return [Request(seconds * n, Budget()) for n in range(count)]


def shares(fleet: Fleet) -> list[int]:
    return [len(replica.served) for replica in fleet.replicas]


def test_round_robin_gives_each_as_many() -> None:
    fleet = Fleet(slow=5.0)
    serve_fleet(every(0.01, 200), 4, fleet.make, "round robin")
    assert shares(fleet) == [50, 50, 50, 50]


def test_who_counts_open_requests_spares_the_replica_with_most() -> None:
    replicas: Any = [SimpleNamespace(open=count) for count in (3, 9, 3, 5)]
    least, two = chooser("least connections", 1), chooser("two choices", 1)
    assert Counter(least(replicas) for _ in range(100)) == {0: 50, 2: 50}
    chosen = Counter(two(replicas) for _ in range(600))
    assert chosen[1] == 0
    assert min(chosen[0], chosen[2]) > chosen[3] > 0


@pytest.mark.parametrize("balancer", BALANCERS)
def test_every_request_has_one_outcome_though_a_replica_dies(balancer: Balancer) -> None:
    fleet = Fleet()
    requests = every(0.002, 1000)
    served = serve_fleet(requests, 3, fleet.make, balancer, death=(0.5, 1.5))
    assert Counter(_sent(one) for one in served) == Counter(request.at for request in requests)
    dead, *_, successor = fleet.replicas
    assert all(one.finished <= 0.5 for one in dead.served)
    assert min(one.request.at for one in successor.served) >= 1.5
    repeated = [one for one in served if one.request.sent is not None]
    assert repeated
    for one in repeated:
        assert one.request.at == 0.5
        assert one.latency_ms > 1000 * (one.finished - 0.5)


def _sent(one: Served) -> float:
    return one.request.at if one.request.sent is None else one.request.sent
