"""What every peer serves: the bundle's graph of one width, fed by the bundle's own preprocessing.

`PEER_BUNDLE`, `PEER_WIDTH` and `PEER_THREADS` (threads that one batch may use) come from benchmarks/peers.py.
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfsc_bundle.folder import open_bundle
from sfsc_bundle.runner import make_runner

__all__ = ["Network"]


class Network:
    """Encoded images → vectors, in two steps as the peers' interfaces want them."""

    def __init__(self) -> None:
        bundle = open_bundle(Path(os.environ["PEER_BUNDLE"]))
        self.preprocessing = bundle.manifest.preprocessing
        self.run = make_runner(bundle, os.environ["PEER_WIDTH"], threads=int(os.environ["PEER_THREADS"]))

    def embed(self, images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """One batch: uint8 [H, W, 3] each → float32 [n, D]."""
        return self.run(np.stack(images))
