"""One thread makes all changes, several callers' changes at a time.

Invariants:
- Jobs are worked on in the order in which they came, each in exactly one group, and each is answered.
- The thread does not die of a job: whatever the work raises is the answer of the jobs that have none yet.
- What waits is bounded by its number of items; `close` finishes what waits.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sfsc_service.store.embedded.changes import Change
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.errors import StoreBusyError, StoreClosedError, StoreError, StoreFailedError

__all__ = ["Job", "Writer"]

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Job:
    """One call's change. `items`: how many it concerns. `images`: digests that are held until it is done."""

    change: Callable[[DatabaseWriter], Change]
    items: int
    images: Sequence[str] = ()
    future: "Future[Change]" = field(default_factory=Future)


class Writer:
    """`work` gets a group of jobs and answers them; `room`: items that may wait; `group`: items of one group."""

    def __init__(self, work: Callable[[list[Job]], None], room: int, group: int, queue_timeout_s: float) -> None:
        self._work = work
        self._room = room
        self._group = group
        self._queue_timeout_s = queue_timeout_s
        self._jobs: deque[Job] = deque()
        self._waiting = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sfsc-store-writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, job: Job) -> "Future[Change]":
        """Queue a job, waiting `queue_timeout_s` for room.

        Raises:
            StoreBusyError: there was no room.
            StoreClosedError: the writer is closing or closed.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._closing or self._fits(job), self._queue_timeout_s):
                rule = f"at most {self._room} changes may wait"
                raise StoreBusyError(f"store: {rule}; found {self._waiting} after {self._queue_timeout_s:g} s")
            if self._closing:
                raise StoreClosedError("store: it must be open; found it closed")
            self._jobs.append(job)
            self._waiting += job.items
            self._changed.notify_all()
        return job.future

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _fits(self, job: Job) -> bool:
        return not self._jobs or self._waiting + job.items <= self._room

    def _run(self) -> None:
        while jobs := self._next_group():
            try:
                self._work(jobs)
            except Exception as error:
                _log.exception("a group of changes failed")
                _answer(jobs, StoreFailedError(f"store: the change could not be made: {error!r}"))
            _answer(jobs, StoreFailedError("store: the change was not worked on"))

    def _next_group(self) -> list[Job]:
        """The jobs to work on next; none when closed and done."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closing)
            jobs: list[Job] = []
            while self._jobs and (not jobs or sum(job.items for job in jobs) + self._jobs[0].items <= self._group):
                jobs.append(self._jobs.popleft())
            self._waiting -= sum(job.items for job in jobs)
            self._changed.notify_all()
            return jobs


def _answer(jobs: Sequence[Job], error: StoreError) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)
