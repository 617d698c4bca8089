"""Images → vectors outside of a service: no queue, no choice of widths, as many images as there are.

A vector is what a service with this bundle gives for the image at this width, but for the rounding that depends on
the size of a batch.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from sfsc_bundle.errors import ImageError
from sfsc_bundle.folder import Bundle
from sfsc_bundle.header import ImageLimits
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import Device, make_runner
from sfsc_service.engine.networks import LENGTH_TOLERANCE, Image, Vector

__all__ = ["OfflineEmbedder", "UnusableImage"]

BATCH = 32


class UnusableImage(str):
    """Why an image has no vector."""

    __slots__ = ()


class OfflineEmbedder:
    """One width of a bundle, decoding in `threads` threads and computing with as many.

    Raises BundleError, DeviceError.
    """

    def __init__(self, bundle: Bundle, width: str, device: Device, threads: int, limits: ImageLimits) -> None:
        self.manifest, self.width = bundle.manifest, width
        self._runner = make_runner(bundle, width, device=device, threads=threads)
        self._decode = partial(_decoded, preprocessing=bundle.manifest.preprocessing, limits=limits)
        self._pool = ThreadPoolExecutor(threads, "sfsc-decode")

    def embed(self, images: Sequence[bytes]) -> list[Vector | UnusableImage]:
        """Vectors, float32 [D] of unit length, in the order of the images. Raises MemoryError."""
        found: list[Vector | UnusableImage] = []
        decoded = list(self._pool.map(self._decode, images))
        for first in range(0, len(decoded), BATCH):
            found += self._run(decoded[first : first + BATCH])
        return found

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

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


def _decoded(data: bytes, preprocessing: Preprocessing, limits: ImageLimits) -> Image | UnusableImage:
    try:
        return preprocess(data, preprocessing, limits)
    except ImageError as error:
        return UnusableImage(error)
