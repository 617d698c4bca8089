"""Images → vectors for work on a whole gallery: no queue, no choice of widths, as many images as there are.

A vector is what a service with this bundle gives for the image at this width, but for the rounding that depends on
the size of a batch.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from sfsc_bundle.errors import ImageError
from sfsc_bundle.folder import Bundle
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.runner import Device, make_runner
from sfsc_service.engine.networks import LENGTH_TOLERANCE, Image, Vector
from sfsc_service.errors import Problem

__all__ = ["OfflineEmbedder", "UnusableImage"]

BATCH = 32

Decode = Callable[[bytes, Preprocessing], Image]
"""Raises ImageError, or Problem where this image has to wait for another time."""


class UnusableImage(str):
    """Why an image has no vector."""

    __slots__ = ()


class OfflineEmbedder:
    """One width of a bundle, decoding in `threads` threads and computing with as many; one: the caller's.

    Args:
        decode: an image to pixels, uint8 [H, W, 3].
        batch: images that are decoded and computed at a time.
        pause: called before each of these batches; whatever it raises ends the call.

    Raises BundleError, DeviceError.
    """

    def __init__(
        self,
        bundle: Bundle,
        width: str,
        device: Device,
        threads: int,
        decode: Decode,
        *,
        batch: int = BATCH,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self.manifest, self.width = bundle.manifest, width
        self._runner = make_runner(bundle, width, device=device, threads=threads)
        self._decode, self._batch, self._pause = decode, batch, pause
        self._pool = ThreadPoolExecutor(threads, "sfsc-decode") if threads > 1 else None

    def embed(self, images: Sequence[bytes]) -> list[Vector | UnusableImage]:
        """Vectors, float32 [D] of unit length, in the order of the images. Raises MemoryError."""
        found: list[Vector | UnusableImage] = []
        for first in range(0, len(images), self._batch):
            self._pause()
            batch = images[first : first + self._batch]
            found += self._run(list((self._pool.map if self._pool else map)(self._decoded, batch)))
        return found

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _decoded(self, data: bytes) -> Image | UnusableImage:
        try:
            return self._decode(data, self.manifest.preprocessing)
        except ImageError as error:
            return UnusableImage(error)
        except Problem as problem:
            return UnusableImage(problem.detail)

    def _run(self, decoded: Sequence[Image | UnusableImage]) -> list[Vector | UnusableImage]:
        found: list[Vector | UnusableImage] = [one if isinstance(one, UnusableImage) else _NONE for one in decoded]
        places = [place for place, one in enumerate(decoded) if not isinstance(one, UnusableImage)]
        pixels = [one for one in decoded if not isinstance(one, UnusableImage)]
        if not pixels:
            return found
        vectors = self._runner(pixels)
        usable = np.abs(np.linalg.norm(vectors, axis=1) - 1.0) <= LENGTH_TOLERANCE  # false for NaN too
        for place, vector, good in zip(places, vectors, usable, strict=True):
            found[place] = vector if good else UnusableImage("the network gives it no vector of unit length")
        return found


_NONE: npt.NDArray[np.float32] = np.empty(0, np.float32)
