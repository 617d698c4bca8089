"""The network behind BentoML: adaptive batching, images as multipart uploads that it opens with Pillow.

`PEER_WORKERS`, `PEER_SERVICE_THREADS`, `PEER_BATCH` and `PEER_LATENCY_MS` are its documented options for
throughput; benchmarks/peers.py tries several.
"""

import os

import bentoml
import numpy as np
from network import Network
from PIL.Image import Image


@bentoml.service(
    workers=int(os.environ["PEER_WORKERS"]),
    threads=int(os.environ["PEER_SERVICE_THREADS"]),
    logging={"access": {"enabled": False}},
)
class Embed:
    """One batchable method."""

    def __init__(self) -> None:
        self.network = Network()

    @bentoml.api(
        batchable=True,
        max_batch_size=int(os.environ["PEER_BATCH"]),
        max_latency_ms=int(os.environ["PEER_LATENCY_MS"]),
    )
    def embed(self, image: list[Image]) -> np.ndarray:
        """Encoded images → float32 [n, D]."""
        return self.network.embed([self.network.pixels(one) for one in image])
