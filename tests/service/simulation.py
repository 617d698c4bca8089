"""A discrete-event simulation of queue, scheduler and workers: hours of traffic without a clock."""

import bisect
import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sfsc_service.scheduler import Machine, Work, plan

__all__ = ["Served", "costs", "poisson", "simulate"]

PER_IMAGE_MS = {"0.25": 0.8, "0.5": 3.1, "0.75": 7.9, "1.0": 13.7}
WIDTHS = tuple(PER_IMAGE_MS)


@dataclass(frozen=True, slots=True)
class Served:
    """One request: what it asked for, what it got and when, in seconds."""

    work: Work
    arrived: float
    width: str
    finished: float

    @property
    def in_time(self) -> bool:
        return self.finished <= self.work.due


def costs(width: str, images: int) -> float:
    """Milliseconds of a batch: a little less per image in larger ones."""
    return PER_IMAGE_MS[width] * (0.2 + 0.8 * images)


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Times of arrival at `rate` per second."""
    draw, times, now = random.Random(seed), [], 0.0
    while (now := now + draw.expovariate(rate)) < seconds:
        times.append(now)
    return times


def simulate(
    arrivals: Sequence[tuple[float, Work]], machine: Machine, cost: Callable[[str, int], float] = costs
) -> list[Served]:
    """Serve all arrivals, ascending in time; what was planned takes exactly what it costs."""
    waiting: list[tuple[float, int, float, Work]] = []
    free = [(0.0, number) for number in range(machine.workers)]
    served: list[Served] = []
    level = at = 0
    while at < len(arrivals) or waiting:
        now, worker = heapq.heappop(free)
        if not waiting:
            now = max(now, arrivals[at][0])
        while at < len(arrivals) and arrivals[at][0] <= now:
            time, work = arrivals[at]
            bisect.insort(waiting, (work.due, at, time, work))
            at += 1
        idle = 1 + sum(other <= now for other, _ in free)
        cut = plan([entry[3] for entry in waiting[:256]], cost, now, machine, idle, level)
        level = cut.level
        finished = now + cost(cut.width, len(cut.members)) / 1000
        served += [Served(waiting[m][3], waiting[m][2], cut.width, finished) for m in cut.members]
        for member in sorted(cut.members, reverse=True):
            del waiting[member]
        heapq.heappush(free, (finished, worker))
    return served
