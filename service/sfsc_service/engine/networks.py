"""The networks of one bundle, opened: what they are, what they offer, and what they cost on this machine.

Whoever works for a request keeps the networks that it was admitted with, so a swap changes nothing for it; what
was swapped out is released with the last request that still has it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfsc_bundle.errors import BundleError
from sfsc_bundle.folder import Bundle, open_bundle
from sfsc_bundle.runner import Device, make_runner
from sfsc_service.engine.cost_file import CostFile, fingerprint
from sfsc_service.engine.costs import BUCKETS, CostTable, measure
from sfsc_service.engine.policy import WidthCatalog
from sfsc_service.errors import Problem

__all__ = ["Image", "Networks", "Vector", "open_networks"]

Image = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

LENGTH_TOLERANCE = 1e-3
MEASURE_S = 0.25
MEASURE_RUNS = 5


class Networks:
    """One runner per width of a bundle, each warmed up and measured with a batch of one.

    Args:
        floor_width: the narrowest width on offer; None = the bundle's narrowest.
        threads: that one run may use.
        data: the folder with what was measured earlier on this machine, which counts for more than a first run.

    Raises:
        BundleError, DeviceError: a graph or the device cannot be had.
        Problem: the floor width is none of the bundle's.
    """

    def __init__(
        self,
        bundle: Bundle,
        floor_width: str | None,
        device: Device,
        threads: int,
        data: Path | None = None,
    ) -> None:
        self.manifest = bundle.manifest
        self.catalog = WidthCatalog.of(self.manifest, floor_width)
        self.runners = {
            width: make_runner(bundle, width, device=device, threads=threads) for width in self.manifest.widths
        }
        self.costs = CostTable(self.manifest.widths)
        self._file = None if data is None else CostFile(data, fingerprint(self.manifest, device, threads))
        kept = None if self._file is None else self._file.read()
        for width in self.manifest.widths:
            self.measure(width, 1, runs=MEASURE_RUNS if kept is None else 1)
        if kept is not None:
            self.costs.load(kept)

    def run(self, width: str, images: Sequence[Image]) -> list[Vector | Exception]:
        """Embed uint8 [H, W, 3] each; what is not of unit length is a Problem in its place."""
        # For so large a copy numpy would let go of the interpreter, and then have to wait for it.
        joined = np.frombuffer(b"".join([image.data for image in images]), np.uint8)
        vectors = self.runners[width](joined.reshape(len(images), *images[0].shape))
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        usable = np.abs(lengths - 1.0) <= LENGTH_TOLERANCE  # false for NaN too
        return [vector if good else _unusable(width) for vector, good in zip(vectors, usable, strict=True)]

    def measure(self, width: str, images: int, budget_s: float = MEASURE_S, runs: int = MEASURE_RUNS) -> None:
        """Take the time of a batch, and so warm its size up."""
        size = self.manifest.preprocessing
        batch = np.zeros((images, size.height, size.width, 3), np.uint8)
        found = measure(lambda: self.runners[width](batch), time.perf_counter, budget_s, runs)
        self.costs.set_measured(width, images, found)

    def keep_costs(self) -> None:
        """Write what is known of costs for the next start; failing is no more than a line in the log."""
        if self._file is not None:
            try:
                self._file.write(self.costs.table())
            except OSError as error:
                log.warning("%s: costs cannot be kept for the next start: %s", self._file.path, error)

    def warm_up(self, max_batch: int, go_on: Callable[[], bool]) -> None:
        """Measure every width at every batch size that will be used, as long as `go_on`."""
        for images in BUCKETS:
            for width in self.manifest.widths:
                if 1 < images <= max_batch and go_on():
                    self.measure(width, images)


def open_networks(
    folder: Path, floor_width: str | None, device: Device, threads: int, data: Path | None = None
) -> Networks:
    """The networks of a bundle folder that somebody may be replacing.

    Raises:
        BundleError: also where the folder was replaced while it was being read.
        DeviceError, Problem: as `Networks`.
    """
    bundle = open_bundle(folder)
    networks = Networks(bundle, floor_width, device, threads, data)
    if open_bundle(folder).manifest != bundle.manifest:
        raise BundleError(f"{folder} was replaced while it was being read")
    return networks


def _unusable(width: str) -> Problem:
    return Problem("inference_failed", f"the network of width {width} gave a vector that is not of unit length")
