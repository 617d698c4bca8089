"""Replicas behind a proxy, simulated: who gets a request, and what becomes of those of a replica that dies."""

import random
from collections.abc import Callable, Sequence
from typing import Literal, assert_never

from simulation import Events, Replica, Request, Served

__all__ = ["BALANCERS", "Balancer", "Death", "chooser", "serve_fleet"]

Balancer = Literal["round robin", "least connections", "two choices", "random"]
BALANCERS: dict[Balancer, str] = {
    "round robin": "nginx as in docker/nginx, which names no other method",
    "least connections": "nginx with `least_conn`",
    "two choices": "nginx with `random two least_conn`",
    "random": "a Service of Kubernetes without a proxy, a connection for each request",
}
"""And who chooses so."""
Death = tuple[float, float]
"""When a replica is killed, and when another one takes its place, in seconds."""


def serve_fleet(
    requests: Sequence[Request],
    replicas: int,
    make: Callable[[Events, int], Replica],
    balancer: Balancer,
    *,
    death: Death | None = None,
    seed: int = 0,
) -> list[Served]:
    """Serve all requests, ascending in time; their outcomes, in no order.

    `death`: of one replica. Its process is killed, so its connections break: the proxy sends what it has not
    answered to others, at once, and new requests, too, until it is back with nothing in its queue.
    """
    events = Events()
    alive = [make(events, number) for number in range(replicas)]
    ended: list[Replica] = []
    choose = chooser(balancer, seed)

    def arrive(request: Request) -> None:
        alive[choose(alive)].arrive(request)

    def die() -> None:
        killed = alive.pop(0)
        ended.append(killed)
        for request in killed.kill():
            sent = request.at if request.sent is None else request.sent
            arrive(Request(events.now, request.budget, sent))

    if death is not None:
        assert replicas > 1, "somebody must be left"
        events.at(death[0], die)
        events.at(death[1], lambda: alive.append(make(events, replicas)))
    events.play(requests, arrive)
    return [one for replica in [*alive, *ended] for one in replica.served]


def chooser(balancer: Balancer, seed: int) -> Callable[[Sequence[Replica]], int]:
    """Which of some replicas gets the next request."""
    draw, turn = random.Random(seed), _Turn()
    match balancer:
        case "round robin":
            return lambda replicas: turn.next(range(len(replicas)))
        case "least connections":
            return lambda replicas: turn.next(_least_open(replicas, range(len(replicas))))
        case "two choices":
            return lambda replicas: _least_open(
                replicas, draw.sample(range(len(replicas)), min(2, len(replicas)))
            )[0]
        case "random":
            return lambda replicas: draw.randrange(len(replicas))
        case _:
            assert_never(balancer)


def _least_open(replicas: Sequence[Replica], numbers: Sequence[int]) -> list[int]:
    least = min(replicas[number].open for number in numbers)
    return [number for number in numbers if replicas[number].open == least]


class _Turn:
    """Goes round."""

    def __init__(self) -> None:
        self._count = 0

    def next(self, numbers: Sequence[int]) -> int:
        self._count += 1
        return numbers[self._count % len(numbers)]
