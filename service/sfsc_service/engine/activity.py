"""Whether anybody asks anything of the service, so that work of its own knows when to wait."""

import time
from collections.abc import Callable
from types import TracebackType

__all__ = ["Activity"]


class Activity:
    """A context that is entered for as long as a request is worked on. To be used in the event loop alone.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way = 0
        self._ended = clock()

    @property
    def idle_s(self) -> float:
        """Seconds since the last request was answered; 0 while one is under way."""
        return 0.0 if self._under_way else self._clock() - self._ended

    def __enter__(self) -> None:
        self._under_way += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._under_way -= 1
        self._ended = self._clock()
