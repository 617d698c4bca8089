"""The networks of one bundle, opened: one runner per width, and what each costs on this machine.

A request keeps a reference to the networks that it was admitted with, so a swap changes nothing for it; networks
that were swapped out are released with the last such request.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

import numpy as np
import numpy.typing as npt
import onnxruntime

from sfsc_bundle.errors import BundleError, DeviceError
from sfsc_bundle.folder import Bundle, open_bundle
from sfsc_bundle.runner import Acceleration, Device, make_runner
from sfsc_service.engine.alignment_file import AlignmentFile
from sfsc_service.engine.cost_file import CostFile, fingerprint
from sfsc_service.engine.costs import BUCKETS, CostTable, measure
from sfsc_service.engine.gallery_alignment import GalleryAlignment
from sfsc_service.engine.policy import WidthCatalog
from sfsc_service.errors import Problem

__all__ = ["Image", "Networks", "Vector", "check_device", "open_networks"]

Image = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

LENGTH_TOLERANCE = 1e-3
"""How far from 1 the length of a usable vector may be."""
MEASURE_S = 0.25
MEASURE_RUNS = 5
MAX_IDLE_MEASUREMENT_MS = 250.0
"""Batches that are predicted to take longer are not measured while the service is idle: a request may come."""
STALE_S = 60.0
"""Seconds after which the cost of a width that no batch had is measured again."""


class Networks:
    """One runner per width of a bundle, each warmed up and measured with a batch of one.

    Args:
        floor_width: the narrowest width that the service may choose; None = the bundle's narrowest.
        threads: threads of one run.
        data: the folder of the cost file; costs measured earlier on this machine are preferred to a first run's.
        alignment: of these graphs on the gallery's own images.
        acceleration: of the device; None: none.

    Attributes:
        own: the manifest of the bundle as it is without the alignment.

    Raises:
        BundleError: a graph cannot be opened.
        DeviceError: the device is not available.
        Problem: unknown_width, if the bundle has no such floor width.
    """

    def __init__(
        self,
        bundle: Bundle,
        floor_width: str | None,
        device: Device,
        threads: int,
        data: Path | None = None,
        alignment: GalleryAlignment | None = None,
        acceleration: Acceleration | None = None,
    ) -> None:
        self.own, self.alignment = bundle.manifest, alignment
        self.manifest = self.own if alignment is None else alignment.manifest
        self.catalog = WidthCatalog.of(self.manifest, floor_width)
        self.runners = {
            width: make_runner(
                bundle,
                width,
                device=device,
                threads=threads,
                map=None if alignment is None else alignment.map_of(width),
                acceleration=acceleration,
            )
            for width in self.manifest.widths
        }
        self.costs = CostTable(self.manifest.widths)
        wanted = fingerprint(self.manifest, device, threads, acceleration)
        self._file = None if data is None else CostFile(data, wanted)
        kept = None if self._file is None else self._file.read()
        for width in self.manifest.widths:
            self.measure(width, 1, runs=MEASURE_RUNS if kept is None else 1)
        if kept is not None:
            self.costs.load(kept)

    def run(self, width: str, images: Sequence[Image]) -> list[Vector | Exception]:
        """Embed images, uint8 [H, W, 3] each, into float32 [D]; a vector not of unit length becomes a Problem."""
        vectors = self.runners[width](images)
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        usable = np.abs(lengths - 1.0) <= LENGTH_TOLERANCE  # false for NaN too
        complaint = f"the network of width {width} returned a vector that is not of unit length"
        return [
            vector if good else Problem("inference_failed", complaint)
            for vector, good in zip(vectors, usable, strict=True)
        ]

    @property
    def known_spaces(self) -> frozenset[str]:
        """The spaces of which these networks have every width: the bundle's own and, if any, the aligned one."""
        return frozenset({self.own.space} if self.alignment is None else {self.own.space, self.alignment.aligned})

    def bring(self, vectors: Vector, width: str, space: str) -> tuple[Vector, str]:
        """Vectors [n, D] of one width, brought into the space in force, and the space that they are then of."""
        return (vectors, space) if self.alignment is None else self.alignment.bring(vectors, width, space)

    def measure(self, width: str, images: int, budget_s: float = MEASURE_S, runs: int = MEASURE_RUNS) -> None:
        """Measure what a batch costs, which also warms its size up."""
        size = self.manifest.preprocessing
        batch = np.zeros((images, size.height, size.width, 3), np.uint8)
        found = measure(lambda: self.runners[width](batch), time.perf_counter, budget_s, runs)
        self.costs.set_measured(width, images, found)

    def keep_costs(self) -> None:
        """Write the costs to the cost file for the next start. A failure is only logged."""
        if self._file is not None:
            try:
                self._file.write(self.costs.table())
            except OSError as error:
                log.warning(
                    "cannot write %s: %s; the next start will measure the costs again", self._file.path, error
                )

    def warm_up(self, max_batch: int, go_on: Callable[[], bool]) -> None:
        """Measure every width at every batch size up to `max_batch`, as long as `go_on` returns true."""
        for images in BUCKETS:
            for width in self.manifest.widths:
                if 1 < images <= max_batch and go_on():
                    self.measure(width, images)

    def next_measurement(self, max_batch: int) -> tuple[str, int] | None:
        """The (width, images) to measure next while idle: a size that is not known yet, else a stale width."""
        for images in BUCKETS:
            for width, known in self.costs.table().items():
                wanted = images <= max_batch and images not in known
                if wanted and self.costs.estimate(width, images) <= MAX_IDLE_MEASUREMENT_MS:
                    return width, images
        stale = self.costs.stale(STALE_S)
        return None if stale is None else (stale, 1)


def check_device(device: Device) -> None:
    """Refuse a device that this build of onnxruntime does not have. Raises DeviceError.

    Runner and index each probe the device again with a run of their own; this check comes first and is free.
    """
    match device:
        case "cpu":
            return
        case "cuda":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise DeviceError(
                    "device: cuda was asked for, but this onnxruntime has no CUDAExecutionProvider; "
                    "install the gpu extra in place of cpu, or set the device to cpu"
                )
        case _:
            assert_never(device)


def open_networks(
    folder: Path,
    floor_width: str | None,
    device: Device,
    threads: int,
    data: Path | None = None,
    acceleration: Acceleration | None = None,
) -> Networks:
    """Open the networks of a bundle folder, which another process may be replacing.

    Args:
        data: the folder of the cost file and of the gallery's alignment, which is applied.

    Raises:
        BundleError: a graph cannot be opened, the folder was replaced while it was read, or the gallery's
            alignment cannot be read or is of other graphs.
        DeviceError, Problem: as `Networks`.
    """
    bundle = open_bundle(folder)
    alignment = None if data is None else AlignmentFile(data).open(bundle.manifest)
    networks = Networks(bundle, floor_width, device, threads, data, alignment, acceleration)
    if open_bundle(folder).manifest != bundle.manifest:
        raise BundleError(f"{folder} was replaced while it was read")
    return networks
