"""Bulk calls that are under way, and how long their images take; further calls are refused before these starve.

A call has one window of images under way at a time. A window ends after a time that is bounded: its images that
have not got through by then have failed, and so have all further ones of its call, which its client sends again.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sfsc_bundle.errors import ImageError
from sfsc_service.engine.bulk_repeats import is_busy, repeated_after_s
from sfsc_service.errors import Problem

__all__ = ["BulkCall", "BulkLoad", "BulkWindow"]

T = TypeVar("T")

REFUSED_SHARE = 0.25
"""Calls are refused while a window is predicted to take more than this share of the time that it may take: those
under way have several windows, and the prediction is of the recent past."""
MEMORY_S = 10.0
"""The time constant of the memory of how quickly images get through."""
EXPECTED_S = 2.0
"""For how long a call that is read counts as a window; its client may be slow, and others need not wait for it."""
SMOOTHING = 0.1
"""The weight of one window in the number of images that the next ones are predicted to have."""
LONGEST_PAUSE_S = 20.0
"""The most that a refusal says to wait. Clients do not wait for longer than a while."""


class BulkLoad:
    """What bulk calls have under way. Not thread-safe: the event loop's.

    Args:
        limit_s: images of a window → seconds that it may take.
        clock: seconds.
    """

    def __init__(self, limit_s: Callable[[float], float], clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_s, self.clock = limit_s, clock
        self._images = 0
        self._window_images = 1.0
        self._expected: dict[BulkCall, float] = {}
        """Calls from which a window may come at any moment, and since when, in the order of it."""
        self._busy_s = self._ended = 0.0
        """Seconds in which images were under way, and how many ended then, both decayed."""
        self._updated = clock()

    @property
    def predicted_s(self) -> float:
        """How long what is under way is predicted to take."""
        self._update()
        ahead = self._images + len(self._expected) * self._window_images
        return ahead * self._busy_s / max(self._ended, 1.0)

    def check(self) -> None:
        """Refuse a further call while those under way take too long. Raises Problem: bulk_full."""
        predicted_s, limit_s = self.predicted_s, REFUSED_SHARE * self.limit_s(self._window_images)
        if predicted_s > limit_s:
            raise bulk_full(
                f"those of the bulk calls under way are predicted to take {predicted_s:.1f} s, "
                f"the limit is {limit_s:.1f} s",
                predicted_s,
            )

    @contextmanager
    def call(self) -> Iterator["BulkCall"]:
        """A call, to its end; it counts once it is admitted."""
        call = BulkCall(self)
        try:
            yield call
        finally:
            self._expected.pop(call, None)

    def expect(self, call: "BulkCall") -> None:
        """A call is read."""
        self._expected.pop(call, None)
        self._expected[call] = self.clock()

    def begin(self, call: "BulkCall", images: int) -> None:
        """A window begins."""
        self._update()
        self._expected.pop(call, None)
        self._images += images
        self._window_images += SMOOTHING * (images - self._window_images)

    def end(self, call: "BulkCall", images: int) -> None:
        """A window has ended, and these of its images have not."""
        self._update()
        self._images -= images
        self.expect(call)

    def image_ended(self, *, answered: bool) -> None:
        """An image has got through or failed by itself (`answered`), or there was no time for it."""
        self._update()
        self._images -= 1
        self._ended += answered

    def _update(self) -> None:
        now = self.clock()
        kept = math.exp((self._updated - now) / MEMORY_S)
        self._busy_s = kept * self._busy_s + (MEMORY_S * (1 - kept) if self._images else 0.0)
        self._ended *= kept
        self._updated = now
        while self._expected:  # a slow client's call holds up no other one
            call, since = next(iter(self._expected.items()))
            if now - since < EXPECTED_S:
                break
            del self._expected[call]


class BulkCall:
    """One call.

    Attributes:
        admitted: whether it counts.
        gave_up: whether images of its last window have failed because their time was over.
    """

    def __init__(self, load: BulkLoad) -> None:
        self._load = load
        self.admitted = self.gave_up = False

    def admit(self, *, begun: bool = False) -> None:
        """Admit it, unless it was before; `begun`: whatever else is under way. Raises Problem: bulk_full."""
        if not self.admitted:
            if not begun:
                self._load.check()
            self._load.expect(self)
            self.admitted = True

    @contextmanager
    def window(self, images: int) -> Iterator["BulkWindow"]:
        """A window, to its end; without images it counts nowhere."""
        window = BulkWindow(self._load, self, images)
        if not images:
            yield window
            return
        self.admit(begun=True)
        self._load.begin(self, images)
        try:
            yield window
        finally:
            left, window.left = window.left, 0
            self._load.end(self, left)


class BulkWindow:
    """Images of one call that are under way together.

    Attributes:
        left: images that have not ended.
    """

    def __init__(self, load: BulkLoad, call: BulkCall, images: int) -> None:
        self._load, self._call = load, call
        self._refused = call.gave_up
        self._began, self._images = load.clock(), images
        self.left = images

    @property
    def ends(self) -> float:
        """When those that have not got through have failed, in seconds; of slow images more is known later."""
        return self._began + self._load.limit_s(self._images)

    async def through(self, attempt: Callable[[float], Awaitable[T]]) -> T:
        """What the attempt gives for one of the images, as `repeated`."""
        answered = False
        try:
            result = await self.repeated(attempt)
            answered = True
            return result
        except ImageError:
            answered = True
            raise
        except Problem as problem:
            answered = not is_busy(problem) and problem.code != "bulk_full"
            raise
        finally:
            if self.left:  # else the window has ended because another image failed in an unforeseen way
                self.left -= 1
                self._load.image_ended(answered=answered)

    async def repeated(self, attempt: Callable[[float], Awaitable[T]]) -> T:
        """What the attempt gives, made again while the queue is full and the window has time.

        Args:
            attempt: of the time until which it may wait, in seconds.

        Raises:
            Problem: bulk_full, a window of this call before has run out of time; else of the last attempt.
        """
        if self._refused:
            raise bulk_full("the images before it have taken too long, so it was not begun", 1.0)
        while True:
            ends = self.ends
            try:
                return await attempt(ends)
            except Problem as problem:
                pause_s = repeated_after_s(problem, ends, self._load.clock())
                if pause_s is None:
                    self._call.gave_up |= is_busy(problem)
                    raise
                await asyncio.sleep(pause_s)


def bulk_full(reason: str, retry_after_s: float) -> Problem:
    """Images of a bulk call are refused for now."""
    pause_s = min(retry_after_s, LONGEST_PAUSE_S)
    return Problem("bulk_full", f"images of bulk calls: {reason}", retry_after_s=pause_s)
