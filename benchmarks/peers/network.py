"""What every peer serves: the bundle's graph of one width, fed by the bundle's own preprocessing.

`PEER_BUNDLE`, `PEER_WIDTH`, `PEER_THREADS` (threads that one batch may use) and `PEER_DECODE` come from
benchmarks/peers.py.
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfsc_bundle.folder import open_bundle
from sfsc_bundle.preprocess import image_to_pixels
from sfsc_bundle.runner import make_runner

__all__ = ["Network"]


class Network:
    """Encoded images → vectors, in two steps as the peers' interfaces want them."""

    def __init__(self) -> None:
        bundle = open_bundle(Path(os.environ["PEER_BUNDLE"]))
        self.preprocessing = bundle.manifest.preprocessing
        self.decoding = os.environ["PEER_DECODE"]
        self.run = make_runner(bundle, os.environ["PEER_WIDTH"], threads=int(os.environ["PEER_THREADS"]))

    def pixels(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """An image that Pillow has opened → uint8 [H, W, 3], as most services do it or as this service does."""
        size = (self.preprocessing.width, self.preprocessing.height)
        match self.decoding:
            case "usual":
                return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
            case "ours":
                return image_to_pixels(image, self.preprocessing)
            case other:
                raise ValueError(f"PEER_DECODE must be usual or ours, found {other}")

    def embed(self, images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """One batch: uint8 [H, W, 3] each → float32 [n, D]."""
        return self.run(np.stack(images))
