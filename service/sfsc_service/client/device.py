"""Embedding on this device: one width of a bundle, so that vectors are sent and images are not."""

import base64
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sfsc_bundle.crop import Crop
from sfsc_bundle.folder import open_bundle
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import make_runner
from sfsc_bundle.widths import canonical_width
from sfsc_service.client.answers import EmbedAnswer

__all__ = ["DeviceEmbedder"]

OPTIONS = ("encoding", "crop")
"""Of a call that embeds; limits that choose a width are for the service to follow."""


class DeviceEmbedder:
    """A width of a bundle, ready to run.

    Raises:
        BundleError: the bundle cannot be opened.
        ValueError: the bundle has no such width.
    """

    def __init__(self, folder: Path, width: str | float) -> None:
        bundle = open_bundle(folder)
        self._manifest = bundle.manifest
        self.width = canonical_width(width)
        if self.width not in (widths := bundle.manifest.widths):
            raise ValueError(f"width: must be one of {', '.join(widths)}, found {self.width}")
        self._runner = make_runner(bundle, self.width)

    def vector(self, image: bytes, options: Mapping[str, Any]) -> dict[str, str]:
        """The members of a request that take the place of an image: its vector, width and space.

        Raises:
            ImageError: the image is not accepted.
            ValueError: an option that only the service can follow.
        """
        return {
            "vector": self._embed(image, {**options, "encoding": "base64"}),
            "width": self.width,
            "space": self._manifest.space,
        }

    def answer(self, images: Sequence[bytes], options: Mapping[str, Any]) -> EmbedAnswer:
        """What /embed would answer, computed here. Raises as `vector`."""
        started = time.perf_counter()
        embeddings = [self._embed(image, options) for image in images]
        return {
            "model": self._manifest.name,
            "space": self._manifest.space,
            "dim": self._manifest.dimension,
            "results": [
                {"embedding": embedding, "width": self.width, "reason": "requested", "budget_met": True}
                for embedding in embeddings
            ],
            "timing_ms": {"total": 1000 * (time.perf_counter() - started)},
        }

    def _embed(self, image: bytes, options: Mapping[str, Any]) -> Any:
        """The embedding of one image, as numbers or base64."""
        if refused := sorted(options.keys() - OPTIONS):
            raise ValueError(
                f"{refused[0]}: must not be set, because this device embeds every image at width {self.width}"
            )
        crop = Crop(*options["crop"]) if "crop" in options else None
        pixels = preprocess(image, self._manifest.preprocessing, crop=crop)
        (embedding,) = self._runner(pixels[np.newaxis])
        if options.get("encoding") == "base64":
            return base64.b64encode(embedding.astype("<f4").tobytes()).decode("ascii")
        return embedding.tolist()
