"""Previews of stored images: small JPEGs, made beside the images to be embedded and never before them.

Invariants:
- A preview that waits holds no bytes of its image: they are read by the thread that decodes them.
- What those threads have read takes at most one part in `FILES_SHARE` of the memory for decoding, or one image.
- Images to be embedded do not wait for previews that wait: these have threads of their own, which come after
  all others on busy cores, and give way in the memory for decoding.
- A preview is refused or dropped within `queue_ms`, like every call of a bounded stage.
"""

import time
from collections.abc import Callable

from sfsc_service.engine.bounded_stage import BoundedStage
from sfsc_service.engine.decoding import Decoding

__all__ = ["Previews", "previews_at_once"]

FILES_SHARE = 8
YIELDING = 3
"""What the threads add to the niceness of those that embed. With much more, those would starve one that holds the
memory which they wait for."""


def previews_at_once(threads: int, decode_bytes: int, max_image_bytes: int) -> int:
    """How many previews are made at a time: as many as there are threads to decode, unless memory is short."""
    return max(1, min(threads, decode_bytes // FILES_SHARE // max_image_bytes))


class Previews:
    """Threads that make previews, `at_once` at a time, in the memory of all images that are decoded."""

    def __init__(self, decoding: Decoding, at_once: int, queue_ms: float, nice: int) -> None:
        self._decoding = decoding
        self._stage = BoundedStage("preview", at_once, queue_ms, nice + YIELDING)

    async def make(self, read: Callable[[], bytes], side: int) -> bytes:
        """A JPEG of an encoded image, upright, at most `side` pixels wide and high.

        Args:
            read: gives the encoded image; called in a thread, once it is this preview's turn.

        Raises:
            Problem: queue_full, queue_timeout, out_of_memory, shutting_down.
            ImageError: the image is not accepted any more.
            Exception: what `read` raises.
        """
        return await self._stage.run(time.monotonic(), None, self._make, read, side)

    def close(self) -> None:
        """Wait for those that are being made; what has not begun is cancelled."""
        self._stage.close()

    def _make(self, read: Callable[[], bytes], side: int) -> bytes:
        return self._decoding.preview_here(read(), side)
