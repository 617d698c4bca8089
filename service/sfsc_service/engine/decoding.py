"""Encoded images → pixels, in threads of their own and within bounds on time and memory.

Invariants:
- Small baseline JPEGs never wait: they are decoded in the event loop, where they arrive.
- The image that is due first is decoded first; due times are fixed, so no image waits for ever.
- The queue is bounded in number here, and in predicted milliseconds by callers that ask for `backlog_ms`.
- At most `threads` images are decoded at a time, and no more than fit, together, into the memory for them.
- An image whose caller has gone leaves the queue at once, and so does one that has waited for too long.
"""

import io
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from PIL import Image as PillowImage

from sfsc_bundle.crop import Crop
from sfsc_bundle.decoder import open_image, orientation_in
from sfsc_bundle.header import ImageHeader, ImageLimits, read_header
from sfsc_bundle.image_formats import media_type
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.orientation import upright_size
from sfsc_bundle.preprocess import decode_bytes, image_to_pixels, to_pixels
from sfsc_service.engine.batch_problems import queue_timeout
from sfsc_service.engine.blocking_calls import BlockingCalls, LongestWait, NotBegunError
from sfsc_service.engine.decode_memory import DecodeMemory
from sfsc_service.engine.networks import Image
from sfsc_service.errors import Problem

__all__ = ["DecodedImage", "Decoding"]

A = ParamSpec("A")
T = TypeVar("T")

JPEG = b"\xff\xd8\xff"
SMALL_BYTES = 2**15
SMALL_PIXELS = 2**16
"""A baseline JPEG within both is decoded in well under a millisecond; a progressive one may have many scans."""
SMOOTHING = 0.05
"""The weight of one image in the predicted time of the next ones."""
LEAST_SIDE = 8
"""Of pixels that preprocessing makes."""
PREVIEW_QUALITY = 85


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """Pixels, uint8 [H, W, 3], and what the image is by its bytes, whatever its caller said."""

    pixels: Image
    media_type: str


class Decoding:
    """A pool of threads that decode.

    Args:
        waiting: images that may wait for a thread.
        memory: what all of them together may take.
        nice: what its threads add to their niceness.
    """

    def __init__(
        self, threads: int, waiting: int, limits: ImageLimits, memory: DecodeMemory, nice: int = 0
    ) -> None:
        self._threads, self._limits, self._memory = threads, limits, memory
        self._pool = BlockingCalls("decode", threads, waiting, nice)
        self._images = {False: 0, True: 0}
        """Those whose callers wait, by whether they are bulk."""
        self._mean_ms = 0.0

    def backlog_ms(self, *, bulk: bool = False) -> float:
        """Predicted time until a thread is free for one more image; bulk counts only for bulk. Never waits."""
        waiting = self._images[False] + (self._images[True] if bulk else 0) - self._threads
        return max(0, waiting) * self._mean_ms / self._threads

    def predicted_ms(self, images: float) -> float:
        """How long so many images are predicted to take on an idle machine, small ones as long as all others."""
        return images * self._mean_ms / self._threads

    async def run(
        self,
        data: bytes,
        preprocessing: Preprocessing,
        due: float,
        *,
        crop: Crop | None = None,
        bulk: bool = False,
        until: float = math.inf,
    ) -> DecodedImage:
        """Decode, crop and resize to uint8 [H, W, 3]. Bulk images do not count against others.

        Args:
            until: when it has waited for too long unless it has begun, in seconds, monotonic.

        Raises:
            ImageError: the image is not accepted.
            Problem: queue_full, queue_timeout, out_of_memory, shutting_down.
        """
        wait = LongestWait()

        def decode() -> DecodedImage:
            wait.began = True
            return self._decode(data, preprocessing, crop)

        self._images[bulk] += 1
        try:
            return await wait.result(self._pool.run_by(due, decode), until - time.monotonic())
        except NotBegunError:
            raise queue_timeout() from None
        finally:
            self._images[bulk] -= 1

    def decode_now(
        self, data: bytes, preprocessing: Preprocessing, crop: Crop | None = None
    ) -> DecodedImage | None:
        """Decode a small baseline JPEG in the calling thread: that takes no longer than the way to another one.

        Returns None for anything else, which has to be `run`. Raises ImageError.
        """
        if len(data) > SMALL_BYTES or not data.startswith(JPEG):
            return None
        header = read_header(data, self._limits)
        if header.pixels > SMALL_PIXELS or header.parsed.coefficient_bytes:
            return None
        return _decoded(header, preprocessing, crop)

    def decode_here(self, data: bytes, preprocessing: Preprocessing) -> Image:
        """Decode in the calling thread, which is none of these, within the memory of all images.

        Raises what `run` raises.
        """
        return self._decode(data, preprocessing, None).pixels

    def preview_here(self, data: bytes, side: int) -> bytes:
        """A JPEG of the upright image, at most `side` pixels wide and high, as `decode_here`.

        Images to be embedded are before it in the memory of all.
        """
        header = read_header(data, self._limits)
        largest = Preprocessing(width=side, height=side)
        with self._memory.reserved(decode_bytes(header, largest), _name(header), gives_way=True):
            return _made_preview(header, side)

    def run_other(self, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> Awaitable[T]:
        """Run something else that computes in one of these threads, before the images that wait."""
        return self._pool.run(call, *args, **kwargs)

    def close(self) -> None:
        """Wait for what is being decoded; what has not begun is cancelled."""
        self._pool.close()

    def _decode(self, data: bytes, preprocessing: Preprocessing, crop: Crop | None) -> DecodedImage:
        began = time.perf_counter()
        header = read_header(data, self._limits)
        read = time.perf_counter()
        with self._memory.reserved(decode_bytes(header, preprocessing, crop), _name(header)):
            waited = time.perf_counter() - read
            decoded = _decoded(header, preprocessing, crop)
        # Two threads at once may lose an observation here; nothing depends on a single one.
        self._mean_ms += SMOOTHING * (1000 * (time.perf_counter() - began - waited) - self._mean_ms)
        return decoded


def _name(header: ImageHeader) -> str:
    return f"a {header.format} of {header.parsed.width}×{header.parsed.height}"


def _made_preview(header: ImageHeader, side: int) -> bytes:
    try:
        image = open_image(header)
        orientation = orientation_in(image, header)
        upright = upright_size(image.size, orientation)
        scale = min(1.0, side / max(upright))
        width, height = (max(LEAST_SIDE, round(scale * length)) for length in upright)
        pixels = image_to_pixels(image, Preprocessing(width=width, height=height), orientation)
        content = io.BytesIO()
        PillowImage.fromarray(pixels).save(content, "JPEG", quality=PREVIEW_QUALITY)
    except MemoryError as error:
        raise _no_memory() from error
    return content.getvalue()


def _decoded(header: ImageHeader, preprocessing: Preprocessing, crop: Crop | None) -> DecodedImage:
    try:
        pixels = to_pixels(header, preprocessing, crop)
    except MemoryError as error:
        raise _no_memory() from error
    return DecodedImage(pixels, media_type(header.format))


def _no_memory() -> Problem:
    return Problem("out_of_memory", "image: the service has no memory left to decode it now", retry_after_s=1.0)
