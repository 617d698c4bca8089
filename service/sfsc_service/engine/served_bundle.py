"""The networks of one bundle with the scheduler that plans for them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sfsc_service.engine.arrival import Arrival
from sfsc_service.engine.batch_plan import Work
from sfsc_service.engine.networks import Networks
from sfsc_service.engine.policy import Choice
from sfsc_service.engine.scheduler import Scheduler

__all__ = ["BatchKey", "QueuedRequest", "ServedBundle", "plan_for_most_urgent"]

BatchKey: TypeAlias = tuple[Networks, str]
"""The networks of a batch and its width."""


@dataclass(frozen=True, slots=True, eq=False)
class ServedBundle:
    """Networks and their scheduler; new requests get the present one and keep it to the end."""

    networks: Networks
    scheduler: Scheduler

    def work(self, choice: Choice, arrival: Arrival) -> Work:
        """The widths that a request may get, and when it is due, as of now."""
        return self.scheduler.work(choice, arrival.at, arrival.elapsed_ms, arrival.after_ms)


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """One waiting request and the bundle that it was admitted with."""

    work: Work
    bundle: ServedBundle


def plan_for_most_urgent(queue: Sequence[QueuedRequest], now: float, idle: int) -> tuple[BatchKey, Sequence[int]]:
    """Plan a batch for the bundle of the most urgent request: a batch has members of one bundle only.

    Args:
        queue: not empty, most urgent first.
        now: seconds, monotonic.
        idle: idle workers, the asking one included.

    Returns:
        The batch's networks and width, and the positions of its members in the queue.
    """
    started = time.perf_counter()
    bundle = queue[0].bundle
    own = [at for at, queued in enumerate(queue) if queued.bundle is bundle]
    batch = bundle.scheduler.next_batch([queue[at].work for at in own], now, idle)
    bundle.scheduler.observe_planning(1000 * (time.perf_counter() - started))
    return (bundle.networks, batch.width), [own[member] for member in batch.members]
