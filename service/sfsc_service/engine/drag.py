"""How much longer work takes than its cost predicts while workers never run out of it.

Costs are those of batches alone. Threads that wait for a core, an event loop that holds the interpreter's lock and
batches at wider widths than the cheapest make the queue move more slowly than its cost says.
"""

import math

__all__ = ["Drag"]

MEMORY_S = 1.0
"""The time constant of the memory."""
MAX_FACTOR = 32.0


class Drag:
    """The time from one batch of a worker to its next one, in multiples of the predicted cost of the first.

    Not thread-safe.

    Attributes:
        factor: 1 .. `MAX_FACTOR`.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self._taken: dict[object, tuple[float, float]] = {}
        """Worker → when it took the batch that it works on, and what that was predicted to cost."""
        self._took_ms = self._cost_ms = self._updated = 0.0

    def taken(self, worker: object, cost_ms: float, now: float) -> None:
        """A worker takes a batch; it was busy since it took the one before."""
        if worker in self._taken:
            before, cost_before_ms = self._taken[worker]
            kept = math.exp((self._updated - now) / MEMORY_S)
            self._took_ms = kept * self._took_ms + 1000 * (now - before)
            self._cost_ms = kept * self._cost_ms + cost_before_ms
            self._updated = now
            if self._cost_ms > 0:
                self.factor = min(max(self._took_ms / self._cost_ms, 1.0), MAX_FACTOR)
        self._taken[worker] = now, cost_ms

    def idle(self, worker: object) -> None:
        """A worker has nothing to do or was lost: until its next batch it tells nothing."""
        self._taken.pop(worker, None)
