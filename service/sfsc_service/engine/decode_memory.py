"""A budget of bytes that images being decoded share.

An eighth of it is set aside for images that are small enough for every thread to decode one within it: they never
wait. The others share the rest, and the one that has waited longest is next. Those that give way, such as
previews, wait until none of the others does, and take half of the rest together, or one of them what it needs.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

from sfsc_bundle.errors import ImageError
from sfsc_service.errors import Problem

__all__ = ["DecodeMemory"]

MIB = 2**20
SMALL_SHARE = 8


class DecodeMemory:
    """Bytes that may be taken at a time; `largest` of them by one image.

    Args:
        threads: images that are decoded at a time.
        timeout_s: how long one waits for its bytes.
    """

    def __init__(self, total_bytes: int, threads: int, timeout_s: float) -> None:
        aside = total_bytes // SMALL_SHARE
        self._small = aside // threads
        self.largest, self._timeout_s = total_bytes - aside, timeout_s
        self._taken = 0
        self._changed = threading.Condition()
        self._taken_behind = 0
        """By those that give way."""
        self._waiting: list[object] = []
        self._waiting_behind: list[object] = []

    @contextlib.contextmanager
    def reserved(self, size: int, image: str, *, gives_way: bool = False) -> Iterator[None]:
        """Wait until so many bytes are free, and reserve them.

        Args:
            image: what the image is, for the refusal.
            gives_way: to all that do not.

        Raises:
            ImageError: image_too_many_pixels, where an image needs more than there is altogether.
            Problem: queue_full, where the bytes do not become free in time.
        """
        if size <= self._small:
            yield
            return
        if size > self.largest:
            raise ImageError(
                "image_too_many_pixels",
                f"image must take at most {self.largest // MIB} MiB of memory to decode, "
                f"found {image}, which takes {-(-size // MIB)}",
            )
        self._take(size, gives_way)
        try:
            yield
        finally:
            with self._changed:
                self._count(-size, gives_way)
                self._changed.notify_all()

    def _take(self, size: int, gives_way: bool) -> None:
        turn = object()
        ends = time.monotonic() + self._timeout_s
        waiting = self._waiting_behind if gives_way else self._waiting
        with self._changed:
            waiting.append(turn)
            try:
                while waiting[0] is not turn or not self._has_room(size, gives_way):
                    if not self._changed.wait(ends - time.monotonic()) and time.monotonic() >= ends:
                        raise Problem(
                            "queue_full",
                            f"image: those being decoded take all of the {self.largest // MIB} MiB that they may",
                            retry_after_s=1.0,
                        )
                self._count(size, gives_way)
            finally:
                waiting.remove(turn)
                self._changed.notify_all()

    def _has_room(self, size: int, gives_way: bool) -> bool:
        if gives_way and (self._waiting or (self._taken_behind and self._taken_behind + size > self.largest // 2)):
            return False
        return self._taken + size <= self.largest

    def _count(self, size: int, gives_way: bool) -> None:
        self._taken += size
        if gives_way:
            self._taken_behind += size
