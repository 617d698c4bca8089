"""Bytes → vector: decode, choose the width, wait for a worker, compute, check.

Every width's graph is opened once. What is measured of batches corrects the cost table that decides on widths.
"""

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sfsc_bundle.folder import Bundle
from sfsc_bundle.header import ImageLimits, open_header
from sfsc_bundle.preprocess import load, preprocess, squash
from sfsc_bundle.runner import make_runner
from sfsc_service.batcher import Answer, Batch, Batcher, Limits
from sfsc_service.costs import BUCKETS, CostTable, measure
from sfsc_service.device import check_device, split_threads
from sfsc_service.errors import Problem
from sfsc_service.metrics import Metrics
from sfsc_service.policy import Choice, Offer, Reason, Wish, admit, check_deadline, choose, ideal_width
from sfsc_service.pool import Pool
from sfsc_service.scheduler import Machine, Work, plan
from sfsc_service.settings import Settings

__all__ = ["Arrival", "Embedded", "Embedder"]

Image = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # a JPEG with further pictures behind it, which browsers show as one
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}
log = logging.getLogger(__name__)

JPEG = b"\xff\xd8\xff"
SMALL_BYTES = 2**15
SMALL_PIXELS = 2**16
"""A JPEG within both is decoded in well under a millisecond, whatever is in it."""

LENGTH_TOLERANCE = 1e-3
MEASURE_S = 0.25
LONGEST_IDLE_MEASUREMENT_MS = 250.0
STALE_S = 60.0
BULK_SLACK = 10.0
"""The service's own target for an image of a bulk call, in targets for a request of its own."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a request arrived (seconds, monotonic) and what it will still need after its batch."""

    at: float
    after_ms: float = 0.0
    bulk: bool = False

    @classmethod
    def now(cls, *, bulk: bool = False) -> "Arrival":
        """A request that arrives at this moment."""
        return cls(time.monotonic(), bulk=bulk)

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since."""
        return 1000 * (time.monotonic() - self.at)


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A vector, float32 [D] of unit length, and how it came about; times in milliseconds."""

    vector: Vector
    width: str
    reason: Reason
    choice: Choice
    preprocess_ms: float
    queue_ms: float
    compute_ms: float

    def budget_met(self, arrival: Arrival) -> bool:
        """Whether an answer given now keeps the request's limits."""
        return self.choice.budget_met(arrival.elapsed_ms)


class Embedder:
    """The networks of one bundle and the engine in front of them.

    Raises (on construction):
        BundleError, DeviceError: a graph or the device cannot be had.
        Problem: the floor width is none of the bundle's.
    """

    def __init__(self, bundle: Bundle, settings: Settings, metrics: Metrics) -> None:
        check_device(settings.device)
        self.bundle, self.manifest = bundle, bundle.manifest
        self.offer = Offer.of(self.manifest, settings.floor_width)
        self._settings, self._metrics = settings, metrics
        workers, inside = split_threads(settings.thread_count, settings.device)
        self._runners = {
            width: make_runner(bundle, width, device=settings.device, threads=inside)
            for width in self.manifest.widths
        }
        self.costs = CostTable(self.manifest.widths)
        for width in self.manifest.widths:
            self._measure(width, 1)
        self._level = 0
        self._machine = Machine(workers, settings.max_batch, settings.slo_ms / 2)
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._decoders = Pool("decode", settings.thread_count, 16 * settings.max_batch)
        self.batcher: Batcher[str, Work, Image, Vector] = Batcher(
            self._plan,
            self._run,
            Limits(workers, settings.queue_ms),
            observe=self._observe,
            dropped=lambda cause: metrics.dropped.labels(cause).inc(),
        )
        # Looking series up by their labels costs more than counting.
        self._series = functools.cache(
            lambda width, reason: (metrics.embeddings.labels(width, reason), metrics.queue_seconds.labels(width))
        )
        metrics.waiting.set_function(lambda: self.batcher.waiting)
        metrics.backlog.set_function(lambda: self.batcher.backlog_ms(patient=True) / 1000)

    async def embed(
        self, data: bytes, wish: Wish, arrival: Arrival, mix: Mapping[str, int] | None = None
    ) -> Embedded:
        """Embed one encoded picture.

        Args:
            mix: the gallery's items per width, where the vector is to be searched with.

        Raises:
            Problem: the wish cannot be granted, or the network failed.
            ImageError: the picture cannot be taken.
        """
        slo_ms = self._settings.slo_ms * (BULK_SLACK if arrival.bulk else 1.0)
        choice = choose(wish, self.offer, self.costs.estimate, slo_ms, mix)
        self.batcher.check_room(patient=arrival.bulk)
        self._admit(choice, arrival)
        started = time.monotonic()
        image = await self._preprocess(data)
        preprocess_ms = 1000 * (time.monotonic() - started)
        self._metrics.preprocess_seconds.observe(preprocess_ms / 1000)
        check_deadline(choice, arrival.elapsed_ms)
        self._admit(choice, arrival)
        answer, ideal = await self._compute(image, choice, arrival)
        return self._embedded(answer, choice, ideal, preprocess_ms)

    def media_type(self, data: bytes) -> str:
        """What a picture is by its bytes, whatever its caller said: it goes out again to browsers."""
        return MEDIA_TYPES[open_header(data, self._limits).format or ""]

    async def measure_idle(self) -> None:
        """Measure one batch size that is not known yet, or one width that has become stale. For idle times."""
        for images in BUCKETS:
            for width, known in self.costs.table().items():
                wanted = images <= self._settings.max_batch and images not in known
                if wanted and self.costs.estimate(width, images) <= LONGEST_IDLE_MEASUREMENT_MS:
                    await self._decoders.run(self._measure, width, images)
                    return
        stale = self.costs.stale(STALE_S)
        if stale is not None:
            await self._decoders.run(self._measure, stale, 1)

    def close(self, timeout_s: float) -> None:
        """Work off what was admitted, then end all threads."""
        self._decoders.close()
        self.batcher.close(timeout_s)

    async def _preprocess(self, data: bytes) -> Image:
        """Small JPEGs are decoded here and now: handing them to another thread and back takes as long."""
        preprocessing = self.manifest.preprocessing
        if len(data) > SMALL_BYTES or not data.startswith(JPEG):
            return await self._decoders.run(preprocess, data, preprocessing, self._limits)
        header = open_header(data, self._limits)
        if header.width * header.height > SMALL_PIXELS:
            return await self._decoders.run(lambda: squash(load(header), preprocessing))
        return squash(load(header), preprocessing)

    def _admit(self, choice: Choice, arrival: Arrival) -> None:
        wait_ms = self.batcher.backlog_ms(patient=arrival.bulk)
        admit(choice, self.costs.estimate, wait_ms, arrival.elapsed_ms, arrival.after_ms)

    async def _compute(self, image: Image, choice: Choice, arrival: Arrival) -> tuple[Answer[str, Vector], str]:
        ideal = ideal_width(choice, self.costs.estimate, arrival.elapsed_ms + arrival.after_ms)
        due = arrival.at + (choice.target_ms - arrival.after_ms) / 1000
        expires = None if choice.deadline_ms is None else arrival.at + choice.deadline_ms / 1000
        future = self.batcher.submit(
            image,
            Work(choice.widths, ideal, due),
            due=due,
            expires=expires,
            weight_ms=self.costs.estimate(choice.widths[0], 1),
            patient=arrival.bulk,
        )
        try:
            return await future, ideal
        except Problem:
            raise
        except Exception as error:
            log.exception("a run of the network failed")
            raise Problem("inference_failed", f"the network could not compute this image: {error}") from error

    def _embedded(self, answer: Answer[str, Vector], choice: Choice, ideal: str, preprocess_ms: float) -> Embedded:
        reason: Reason = choice.reason
        if reason == "budget" and float(answer.key) < float(ideal):
            reason = "load"
        counter, queue_seconds = self._series(answer.key, reason)
        counter.inc()
        queue_seconds.observe(answer.queue_ms / 1000)
        return Embedded(
            answer.result, answer.key, reason, choice, preprocess_ms, answer.queue_ms, answer.compute_ms
        )

    def _plan(self, queue: Sequence[Work], now: float, idle: int) -> tuple[str, Sequence[int]]:
        cut = plan(queue, self.costs.estimate, now, self._machine, idle, self._level)
        self._level = cut.level
        return cut.width, cut.members

    def _run(self, width: str, images: list[Image]) -> Sequence[Vector | Exception]:
        vectors = self._runners[width](np.stack(images))
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        usable = np.abs(lengths - 1.0) <= LENGTH_TOLERANCE  # false for NaN too
        return [vector if good else _unusable(width) for vector, good in zip(vectors, usable, strict=True)]

    def _observe(self, batch: Batch[str]) -> None:
        if batch.failed:
            self._metrics.failed_batches.labels(batch.key).inc()
            return
        self.costs.observe(batch.key, batch.size, batch.compute_ms)
        self._metrics.compute_seconds.labels(batch.key).observe(batch.compute_ms / 1000)
        self._metrics.batch_images.labels(batch.key).observe(batch.size)

    def _measure(self, width: str, images: int) -> None:
        size = self.manifest.preprocessing
        batch = np.zeros((images, size.height, size.width, 3), np.uint8)
        self.costs.measured(
            width, images, measure(lambda: self._runners[width](batch), time.perf_counter, MEASURE_S)
        )


def _unusable(width: str) -> Problem:
    return Problem("inference_failed", f"the network of width {width} gave a vector that is not of unit length")
