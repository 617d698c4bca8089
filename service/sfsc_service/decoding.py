"""Encoded pictures → pixels, in threads of their own and within a bound on memory.

Invariants:
- Small JPEGs never wait: they are decoded where they arrive.
- At most `threads` pictures are decoded at a time, and of the large ones only so many that together they have no
  more pixels than two of the largest allowed. Small ones never wait for that.
- Patient callers together keep no more threads waiting than there are: others go before the rest of them.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from sfsc_bundle.header import ImageLimits, open_header
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import load, squash
from sfsc_service.networks import Image
from sfsc_service.pool import Pool

__all__ = ["Decoding"]

A = ParamSpec("A")
T = TypeVar("T")

JPEG = b"\xff\xd8\xff"
SMALL_BYTES = 2**15
SMALL_PIXELS = 2**16
"""Within both, a JPEG is decoded in well under a millisecond, whatever is in it."""
LARGE_PIXELS = 2_000_000
"""A picture of so many pixels or more has to wait for room."""


class Decoding:
    """A pool for decoding; `waiting`: pictures that may wait for a thread."""

    def __init__(self, threads: int, waiting: int, limits: ImageLimits) -> None:
        self._pool = Pool("decode", threads, waiting)
        self._limits = limits
        self._patient = asyncio.Semaphore(threads)
        self._room = _Room(2 * limits.max_pixels)

    def at_once(self, data: bytes, preprocessing: Preprocessing) -> Image | None:
        """Decode a small JPEG here and now, which takes no longer than handing it to a thread and back.

        None: it is something else, and has to be `run`. Raises ImageError.
        """
        if len(data) > SMALL_BYTES or not data.startswith(JPEG):
            return None
        image = open_header(data, self._limits)
        if image.width * image.height > SMALL_PIXELS:
            return None
        return squash(load(image), preprocessing)

    async def run(self, data: bytes, preprocessing: Preprocessing, *, patient: bool = False) -> Image:
        """Decode and resize: uint8 [H, W, 3]. Raises ImageError; Problem: queue_full, shutting_down."""
        async with self._patient if patient else contextlib.nullcontext():
            return await self._pool.run(self._decode, data, preprocessing)

    async def beside(self, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T:
        """Something else that computes, in one of the same threads."""
        return await self._pool.run(call, *args, **kwargs)

    def close(self) -> None:
        """Wait for what is being decoded; what has not begun never is."""
        self._pool.close()

    def _decode(self, data: bytes, preprocessing: Preprocessing) -> Image:
        image = open_header(data, self._limits)
        pixels = image.width * image.height
        with self._room.of(pixels) if pixels >= LARGE_PIXELS else contextlib.nullcontext():
            return squash(load(image), preprocessing)


class _Room:
    """Pixels that may be decoded at a time; one picture alone always fits."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._held = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self._pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()
