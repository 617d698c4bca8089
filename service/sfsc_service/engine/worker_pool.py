"""Worker threads that may hang or die: each is watched, given up when it hangs, and replaced.

Invariants:
- What a worker holds when it is lost is told to `lost` exactly once, by then another worker is in its place.
- A worker that was given up learns so when its run ends (`end` is false): its result is thrown away and its
  thread ends. It takes nothing further, because it can be given up only between `begin` and `end`.
- Threads are bounded: once `spare` workers hang or have died, `alive` is false and further ones are not replaced.
  One that comes back after all makes room again; a death is for good.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from sfsc_service.engine.thread_priority import lower_priority

__all__ = ["Loss", "Worker", "WorkerPool"]

H = TypeVar("H")

Loss = Literal["hung", "died"]
WATCH_S = 0.1


@dataclass(slots=True, eq=False)
class Worker(Generic[H]):
    """One thread. `held`: what it works on. `due`: when its run counts as hanging, in seconds on the clock."""

    held: list[H] = field(default_factory=list)
    due: float | None = None
    abandoned: bool = False


class WorkerPool(Generic[H]):
    """A fixed number of working threads and one that watches them.

    Args:
        work: what a worker's thread does, to its end.
        lost: told of a worker that hangs or has died of what `work` raised; called in a thread of the crew.
        nice: by how much the workers give way (priority.py).
    """

    def __init__(
        self,
        count: int,
        spare: int,
        work: Callable[[Worker[H]], None],
        lost: Callable[[Worker[H], Loss], None],
        clock: Callable[[], float] = time.monotonic,
        nice: int = 0,
    ) -> None:
        self._count, self.spare = count, spare
        self._work, self._lost, self._clock, self._nice = work, lost, clock, nice
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads: dict[Worker[H], threading.Thread] = {}
        self._died = self._numbers = 0
        self._watcher = threading.Thread(target=self._watch, name="batch-watch", daemon=True)

    def start(self) -> None:
        """Start all threads."""
        with self._lock:
            for _ in range(self._count):
                self._hire()
        self._watcher.start()

    @property
    def alive(self) -> bool:
        """Whether workers that are lost can still be replaced. Never waits."""
        return self._watcher.is_alive() and self.hanging + self._died < self.spare

    @property
    def hanging(self) -> int:
        """Workers that were given up and have not come back. Never waits."""
        return sum(worker.abandoned for worker in list(self._threads))

    @property
    def died(self) -> int:
        """Workers that have died. Never waits."""
        return self._died

    @property
    def working(self) -> int:
        """Workers that are there for work. Never waits."""
        return sum(not worker.abandoned for worker in list(self._threads))

    @property
    def busy(self) -> bool:
        """Whether a worker that was not given up holds something. Never waits."""
        return any(worker.held and not worker.abandoned for worker in list(self._threads))

    def begin(self, worker: Worker[H], queue_timeout_s: float) -> None:
        """A run begins that may take so long."""
        worker.due = self._clock() + queue_timeout_s

    def end(self, worker: Worker[H]) -> bool:
        """A run has ended; whether its result still counts."""
        with self._lock:
            worker.due = None
            return not worker.abandoned

    def close(self, timeout_s: float) -> None:
        """Wait for the workers, whose `work` somebody has told to end; those that hang are left behind."""
        end = time.monotonic() + timeout_s
        for worker, thread in list(self._threads.items()):
            if not worker.abandoned:
                thread.join(max(0.0, end - time.monotonic()))
        self._ending.set()
        self._watcher.join()

    def _hire(self) -> None:
        worker: Worker[H] = Worker()
        self._numbers += 1
        thread = threading.Thread(target=self._main, args=(worker,), name=f"batch-{self._numbers}", daemon=True)
        self._threads[worker] = thread
        thread.start()

    def _main(self, worker: Worker[H]) -> None:
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
                    self._hire_where_missing()

    def _watch(self) -> None:
        while not self._ending.wait(WATCH_S):
            now = self._clock()
            for worker in list(self._threads):
                if worker.due is not None and now > worker.due:
                    self._lose(worker, "hung")

    def _lose(self, worker: Worker[H], cause: Loss) -> None:
        with self._lock:
            hangs = worker.due is not None and self._clock() > worker.due
            if worker.abandoned or (cause == "hung" and not hangs):
                return
            if cause == "hung":
                worker.abandoned = True
            else:
                self._died += 1
                self._threads.pop(worker)
            self._hire_where_missing()
        self._lost(worker, cause)

    def _hire_where_missing(self) -> None:
        if self.hanging + self._died <= self.spare and self.working < self._count and not self._ending.is_set():
            self._hire()
