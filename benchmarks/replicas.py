"""How attainment and width hold with 1 to 16 replicas behind a proxy, with bursts, and when one dies: simulated.

    python benchmarks/replicas.py      # ten minutes of one core; no clock is read, so others may compute meanwhile

Every replica is the service's own policy and scheduler in the simulation of simulation.py. What a batch takes,
and the expected mAP of a width, are what benchmarks/overload.py measured of models/vehicles-resnet18 on two cores.
Loads are multiples of what all replicas together can do at width 1.0.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from statistics import mean
from typing import Any

import numpy as np

from arrivals import arrivals
from fleet import BALANCERS, Balancer, serve_fleet
from result_file import RESULTS, Figure, write_result
from sfsc_service.engine.batch_plan import Capacity
from sfsc_service.engine.costs import CostTable, Measured
from sfsc_service.engine.policy import Budget, WidthCatalog
from sfsc_service.engine.scheduler import Scheduler
from simulation import Events, Replica, Request, Served

REPLICAS = (1, 2, 4, 16)
LOADS = (0.6, 2.0, 3.0)
PATTERNS = ("poisson", "bursty", "clumped")
CLUMP = 64
"""Images that a client sends at the same moment in the pattern `clumped`: a page of thumbnails."""
SECONDS = 5.0
"""Of traffic, unless others are given."""
SLO_MS, DECODE_MS, NOISE = 100.0, 0.5, 0.15
DEATH_AT = 1.25
"""Second: in the middle of a burst. Another one takes the place just before the traffic ends."""
SLOW = 2.0
"""How much longer the batches of the slow replica take."""


@dataclass(frozen=True, slots=True)
class Run:
    """What is simulated. `slow`: replica 0 takes SLOW times as long for everything as was measured."""

    replicas: int
    balancer: Balancer
    pattern: str
    load: float
    death: bool = False
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """One replica's: costs[width][images] in ms, and the mAP that is expected of a width."""

    costs: dict[str, dict[int, float]]
    points: dict[str, float]
    workers: int

    @property
    def full_per_s(self) -> float:
        """Images a second at width 1.0, in batches of the best size."""
        return 1000 * self.workers / min(ms / images for images, ms in self.costs["1.0"].items())

    def batch_ms(self, width: str, images: int) -> float:
        cells = self.costs[width]
        return float(np.interp(images, list(cells), list(cells.values())))


def main() -> None:
    """Simulate all, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of traffic in each run")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    machine = measured()
    found: list[tuple[Run, dict[str, Any]]] = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        runs = list(plan())
        outcomes = pool.map(partial(simulated, machine, arguments.seconds, arguments.seed), runs)
        for run, outcome in zip(runs, outcomes, strict=True):
            found.append((run, outcome))
            print(run, outcome, flush=True)
    figures = figures_of(found)
    for figure in figures:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit} (goal {figure.goal}, met: {figure.met})")
    data = {
        "slo_ms": SLO_MS,
        "requests/s at width 1.0, one replica": round(machine.full_per_s, 1),
        "expected mAP": machine.points,
        "clump": CLUMP,
        "seconds": arguments.seconds,
        "death_at_s": DEATH_AT,
        "slow": SLOW,
        "balancers": BALANCERS,
        "runs": [asdict(run) | outcome for run, outcome in found],
    }
    print("written to", write_result("replicas", figures, data, seed=arguments.seed))


def measured() -> Machine:
    """The machine of benchmarks/overload.py."""
    data = json.loads((RESULTS / "overload.json").read_text())["data"]
    costs = {
        width: {int(images): ms for images, ms in sorted(cells.items(), key=lambda cell: int(cell[0]))}
        for width, cells in data["batch_ms"].items()
    }
    return Machine(costs, data["expected mAP"], data["workers"])


def plan() -> list[Run]:
    """Every number of replicas behind nginx as it is; other ways to choose one, where they matter; a death."""
    runs = [
        Run(replicas, "round robin", pattern, load)
        for replicas, pattern, load in product(REPLICAS, PATTERNS, LOADS)
    ]
    for balancer, load in product(BALANCERS, LOADS):
        if balancer != "round robin":
            runs.append(Run(REPLICAS[-1], balancer, "clumped", load))
        runs.append(Run(4, balancer, "bursty", load, slow=True))
    for replicas, load in product(REPLICAS[1:], LOADS):
        runs.append(Run(replicas, "round robin", "bursty", load, death=True))
    return runs


def simulated(machine: Machine, seconds: float, seed: int, run: Run) -> dict[str, Any]:
    """Simulate one run; what its clients saw."""
    rate = run.load * run.replicas * machine.full_per_s
    budget = Budget()
    requests = [Request(at, budget) for at in _times(run.pattern, rate, seconds, seed)]

    def make(events: Events, number: int) -> Replica:
        factor = SLOW if run.slow and number == 0 else 1.0
        return _replica(events, machine, factor, seed + 1 + number)

    death = (DEATH_AT, seconds - 0.1) if run.death else None
    served = serve_fleet(requests, run.replicas, make, run.balancer, death=death, seed=seed)
    assert len(served) == len(requests), "every request has exactly one outcome"
    outcome = _outcome(served, machine)
    if run.death:
        after = [one for one in served if DEATH_AT - 0.1 <= _sent(one) < DEATH_AT + 1.0]
        outcome |= {
            "repeated": sum(one.request.sent is not None for one in served),
            "attainment of the second after": round(mean(one.in_time for one in after), 5),
        }
    return outcome


def _times(pattern: str, rate: float, seconds: float, seed: int) -> list[float]:
    if pattern != "clumped":
        return arrivals(pattern, rate, seconds, seed)
    clumps = arrivals("poisson", rate / CLUMP, seconds, seed)
    return sorted(at + 1e-6 * n for at in clumps for n in range(CLUMP))


def _replica(events: Events, machine: Machine, factor: float, seed: int) -> Replica:
    """One that has measured its own costs, of a machine that takes `factor` times as long."""
    table = CostTable(list(machine.points), 32)
    for width, cells in machine.costs.items():
        for images, ms in cells.items():
            table.set_measured(width, images, Measured(factor * ms, factor * ms))
    draw = random.Random(seed)
    return Replica(
        events,
        WidthCatalog(
            tuple(machine.points),
            gflops=dict.fromkeys(machine.points, 1.0),
            mean_ap={width: {"1.0": points} for width, points in machine.points.items()},
            mixed_gap=dict.fromkeys(machine.points, 0.0),
            floor=next(iter(machine.points)),
        ),
        Scheduler(table, Capacity(machine.workers, 32, SLO_MS / 2)),
        lambda width, images: factor * machine.batch_ms(width, images) * draw.lognormvariate(0.0, NOISE),
        SLO_MS,
        DECODE_MS,
    )


def _sent(one: Served) -> float:
    return one.request.at if one.request.sent is None else one.request.sent


def _outcome(served: Sequence[Served], machine: Machine) -> dict[str, Any]:
    """Quality is the mean expected mAP of what was answered in time."""
    in_time = [one for one in served if one.in_time]
    latencies = sorted(one.latency_ms for one in served)
    widths = Counter(one.width for one in served)
    return {
        "requests": len(served),
        "attainment": round(len(in_time) / len(served), 5),
        "quality": round(mean(machine.points[one.width or ""] for one in in_time), 3) if in_time else None,
        "p99_ms": round(latencies[int(0.99 * (len(latencies) - 1))], 1),
        "widths": {width: round(widths[width] / len(served), 4) for width in machine.points},
    }


def figures_of(found: Sequence[tuple[Run, dict[str, Any]]]) -> list[Figure]:
    """What issue 19 asks: how attainment and width hold."""
    by_run = dict(found)

    def percent(run: Run, key: str = "attainment") -> float:
        return 100 * float(by_run[run][key])

    figures = []
    for pattern, load in product(PATTERNS, LOADS):
        one, many = (Run(count, "round robin", pattern, load) for count in (1, 16))
        name = f"{pattern}, {load:g} ×"
        figures += [
            Figure(f"within 100 ms, 16 replicas, {name}", percent(many), "%", ">= 99"),
            Figure(f"within 100 ms, 1 replica − 16, {name}", percent(one) - percent(many), "points", "<= 0.5"),
            Figure(
                f"expected mAP, 1 replica − 16, {name}",
                by_run[one]["quality"] - by_run[many]["quality"],
                "points",
                "<= 0.5",
            ),
        ]
    for replicas, load in product(REPLICAS[1:], LOADS):
        run = Run(replicas, "round robin", "bursty", load, death=True)
        name = f"one of {replicas} killed, bursty, {load:g} ×"
        figures.append(
            Figure(
                f"within 100 ms in the second after, {name}", percent(run, "attainment of the second after"), "%"
            )
        )
    return figures


if __name__ == "__main__":
    main()
