"""Encoded images → pixels, in threads of their own and within bounds on time and memory.

Invariants:
- Small baseline JPEGs never wait: they are decoded in the event loop, where they arrive.
- The image that is due first is decoded first; due times are fixed, so no image waits for ever.
- The queue is bounded in number here, and in predicted milliseconds by callers that ask for `backlog_ms`.
- At most `threads` images are decoded at a time, and no more large ones than have, together, twice the pixels that
  one image may have.
- An image whose caller has gone leaves the queue at once.
"""

import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import ParamSpec, TypeVar

from sfsc_bundle.crop import Crop
from sfsc_bundle.header import ImageLimits, open_header
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import to_pixels
from sfsc_service.engine.blocking_calls import BlockingCalls
from sfsc_service.engine.networks import Image

__all__ = ["Decoding"]

A = ParamSpec("A")
T = TypeVar("T")

JPEG = b"\xff\xd8\xff"
SMALL_BYTES = 2**15
SMALL_PIXELS = 2**16
"""A baseline JPEG within both is decoded in well under a millisecond; a progressive one may have many scans."""
LARGE_PIXELS = 2_000_000
"""An image of so many pixels or more counts as large."""
SMOOTHING = 0.05
"""The weight of one image in the predicted time of the next ones."""


class Decoding:
    """A pool of threads that decode.

    Args:
        waiting: images that may wait for a thread.
        nice: what its threads add to their niceness.
    """

    def __init__(self, threads: int, waiting: int, limits: ImageLimits, nice: int = 0) -> None:
        self._threads, self._limits = threads, limits
        self._pool = BlockingCalls("decode", threads, waiting, nice)
        self._large = _PixelQuota(2 * limits.max_pixels)
        self._images = {False: 0, True: 0}
        """Those whose callers wait, by whether they are bulk."""
        self._mean_ms = 0.0

    def backlog_ms(self, *, bulk: bool = False) -> float:
        """Predicted time until a thread is free for one more image; bulk counts only for bulk. Never waits."""
        waiting = self._images[False] + (self._images[True] if bulk else 0) - self._threads
        return max(0, waiting) * self._mean_ms / self._threads

    async def run(
        self,
        data: bytes,
        preprocessing: Preprocessing,
        due: float,
        *,
        crop: Crop | None = None,
        bulk: bool = False,
    ) -> Image:
        """Decode, crop and resize to uint8 [H, W, 3]. Bulk images do not count against others.

        Raises:
            ImageError: the image is not accepted.
            Problem: queue_full, shutting_down.
        """
        self._images[bulk] += 1
        try:
            return await self._pool.run_by(due, self._decode, data, preprocessing, crop)
        finally:
            self._images[bulk] -= 1

    def decode_now(self, data: bytes, preprocessing: Preprocessing, crop: Crop | None = None) -> Image | None:
        """Decode a small baseline JPEG in the calling thread: that takes no longer than the way to another one.

        Returns None for anything else, which has to be `run`. Raises ImageError.
        """
        if len(data) > SMALL_BYTES or not data.startswith(JPEG):
            return None
        image = open_header(data, self._limits)
        if image.width * image.height > SMALL_PIXELS or "progressive" in image.info:
            return None
        return to_pixels(image, preprocessing, crop)

    def run_other(self, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> Awaitable[T]:
        """Run something else that computes in one of these threads, before the images that wait."""
        return self._pool.run(call, *args, **kwargs)

    def close(self) -> None:
        """Wait for what is being decoded; what has not begun is cancelled."""
        self._pool.close()

    def _decode(self, data: bytes, preprocessing: Preprocessing, crop: Crop | None) -> Image:
        image = open_header(data, self._limits)
        area = image.width * image.height
        with self._large.reserved(area) if area >= LARGE_PIXELS else contextlib.nullcontext():
            began = time.perf_counter()
            pixels = to_pixels(image, preprocessing, crop)
            # Two threads at once may lose an observation here; nothing depends on a single one.
            self._mean_ms += SMOOTHING * (1000 * (time.perf_counter() - began) - self._mean_ms)
            return pixels


class _PixelQuota:
    """How many pixels may be decoded at a time; an image alone is always let in."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._reserved = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserved(self, pixels: int) -> Iterator[None]:
        """Wait until so many pixels are within the quota, and reserve them."""
        with self._changed:
            self._changed.wait_for(lambda: not self._reserved or self._reserved + pixels <= self._pixels)
            self._reserved += pixels
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= pixels
                self._changed.notify_all()
