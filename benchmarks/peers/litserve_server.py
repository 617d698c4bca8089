"""The network behind LitServe: batches by its own loop, images as raw bodies, decoded in its workers.

`PEER_WORKERS`, `PEER_BATCH`, `PEER_WAIT_S` and `PEER_FAST_QUEUE` are the options that its documentation names for
throughput; benchmarks/peers.py tries several.
"""

import io
import os
import sys
from typing import Annotated

import litserve
import numpy as np
import numpy.typing as npt
from fastapi import Body
from network import Network
from PIL import Image

Pixels = npt.NDArray[np.uint8]
EncodedImage = Annotated[bytes, Body(media_type="image/jpeg")]


class Embed(litserve.LitAPI):
    """decode → batch → predict → unbatch → encode."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - the bundle says where it computes
        self.network = Network()

    def decode_request(self, request: EncodedImage) -> Pixels:
        return self.network.pixels(Image.open(io.BytesIO(request)))

    def batch(self, inputs: list[Pixels]) -> list[Pixels]:
        return inputs

    def predict(self, x: list[Pixels]) -> npt.NDArray[np.float32]:
        return self.network.embed(x)

    def encode_response(self, output: npt.NDArray[np.float32]) -> dict[str, list[float]]:
        return {"embedding": output.tolist()}


def main(port: int) -> None:
    """Serve until a signal ends it."""
    api = Embed(
        max_batch_size=int(os.environ["PEER_BATCH"]),
        batch_timeout=float(os.environ["PEER_WAIT_S"]),
        api_path="/embed",
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=int(os.environ["PEER_WORKERS"]),
        fast_queue=os.environ["PEER_FAST_QUEUE"] == "1",
    )
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]))
