"""Worker threads that may hang or die: each is watched, abandoned when it hangs, and replaced.

A worker is *lost* when it was abandoned or has died.

Invariants:
- `lost` is called exactly once for each lost worker, after its replacement has been started.
- An abandoned worker learns of it when its run ends (`end` returns false): its result is discarded and its thread
  ends. It takes no further work, because it can be abandoned only between `begin` and `end`.
- Threads are bounded: once `spare` workers are lost, `alive` is false, and those lost after that are not replaced.
  A worker that comes back after all no longer counts as lost; a death is for good.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar, assert_never

from sfsc_bundle.thread_priority import lower_priority

__all__ = ["Loss", "Worker", "WorkerPool"]

HeldT = TypeVar("HeldT")

Loss = Literal["hung", "died"]
WATCH_S = 0.1
"""Seconds between two looks at the runs: a run is abandoned that much later than it counts as hanging, at most."""


@dataclass(slots=True, eq=False)
class Worker(Generic[HeldT]):
    """One thread.

    Attributes:
        held: what it works on.
        due: when its run counts as hanging, in seconds on the clock; None = nothing runs.
        abandoned: whether it was replaced because its run hangs.
    """

    held: list[HeldT] = field(default_factory=list)
    due: float | None = None
    abandoned: bool = False


class WorkerPool(Generic[HeldT]):
    """A fixed number of working threads and one that watches them.

    Args:
        spare: workers that may hang or have died before the pool counts as dead.
        work: what a worker's thread does, to its end.
        lost: told of a worker that hangs, or has died of what `work` raised; called in a thread of the pool.
        nice: what the workers add to their niceness (thread_priority.py).
        tick: called every `WATCH_S` seconds by the watching thread; raises nothing.

    Attributes:
        died: workers that have died.
    """

    def __init__(
        self,
        count: int,
        spare: int,
        work: Callable[[Worker[HeldT]], None],
        lost: Callable[[Worker[HeldT], Loss], None],
        clock: Callable[[], float] = time.monotonic,
        nice: int = 0,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._count, self.spare = count, spare
        self._tick = tick
        self._work, self._lost, self._clock, self._nice = work, lost, clock, nice
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads: dict[Worker[HeldT], threading.Thread] = {}
        self.died = self._started = 0
        self._watcher = threading.Thread(target=self._watch, name="batch-watch", daemon=True)

    def start(self) -> None:
        """Start all threads."""
        with self._lock:
            for _ in range(self._count):
                self._start_worker()
        self._watcher.start()

    @property
    def alive(self) -> bool:
        """Whether workers that are lost can still be replaced. Never waits."""
        return self._watcher.is_alive() and self.hanging + self.died < self.spare

    @property
    def hanging(self) -> int:
        """Abandoned workers that have not come back. Never waits."""
        return sum(worker.abandoned for worker in list(self._threads))

    @property
    def working(self) -> int:
        """Workers that can take work. Never waits."""
        return sum(not worker.abandoned for worker in list(self._threads))

    @property
    def busy(self) -> bool:
        """Whether a worker that was not abandoned works on something. Never waits."""
        return any(worker.held and not worker.abandoned for worker in list(self._threads))

    def begin(self, worker: Worker[HeldT], hang_after_s: float) -> None:
        """A run begins, which counts as hanging after so long."""
        worker.due = self._clock() + hang_after_s

    def end(self, worker: Worker[HeldT]) -> bool:
        """A run has ended; returns whether its result still counts."""
        with self._lock:
            worker.due = None
            return not worker.abandoned

    def close(self, timeout_s: float) -> None:
        """Wait for the workers, whose `work` the caller has told to end; those that hang are left behind."""
        end = time.monotonic() + timeout_s
        for worker, thread in list(self._threads.items()):
            if not worker.abandoned:
                thread.join(max(0.0, end - time.monotonic()))
        self._ending.set()
        self._watcher.join()

    def _start_worker(self) -> None:
        worker: Worker[HeldT] = Worker()
        self._started += 1
        thread = threading.Thread(target=self._main, args=(worker,), name=f"batch-{self._started}", daemon=True)
        self._threads[worker] = thread
        thread.start()

    def _main(self, worker: Worker[HeldT]) -> None:
        lower_priority(self._nice)
        try:
            self._work(worker)
        except BaseException:
            self._lose(worker, "died")
            raise
        finally:
            if worker.abandoned:
                with self._lock:
                    self._threads.pop(worker)
                    self._start_missing()

    def _watch(self) -> None:
        while not self._ending.wait(WATCH_S):
            self._tick()
            now = self._clock()
            for worker in list(self._threads):
                if worker.due is not None and now > worker.due:
                    self._lose(worker, "hung")

    def _lose(self, worker: Worker[HeldT], cause: Loss) -> None:
        with self._lock:
            hangs = worker.due is not None and self._clock() > worker.due
            if worker.abandoned or (cause == "hung" and not hangs):
                return
            match cause:
                case "hung":
                    worker.abandoned = True
                case "died":
                    self.died += 1
                    self._threads.pop(worker)
                case _:
                    assert_never(cause)
            self._start_missing()
        self._lost(worker, cause)

    def _start_missing(self) -> None:
        if self.hanging + self.died <= self.spare and self.working < self._count and not self._ending.is_set():
            self._start_worker()
