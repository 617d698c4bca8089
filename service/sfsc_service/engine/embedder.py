"""Bytes → vector: decode, choose the width, wait for a worker, compute, check.

What is measured of batches corrects the cost table that decides on widths.

A request is computed by the networks that it was admitted with, from preprocessing to vector, even when others are
put in their place meanwhile: vector, width, space and model of an answer always belong together. A batch has
members of one bundle only.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sfsc_bundle.header import ImageLimits, open_header
from sfsc_bundle.image_formats import media_type
from sfsc_bundle.manifest import Manifest
from sfsc_service.engine.batch_plan import Machine, Work
from sfsc_service.engine.batcher import Answer, Batch, Batcher, Limits, queue_full
from sfsc_service.engine.costs import BUCKETS, CostTable
from sfsc_service.engine.decoding import Decoding
from sfsc_service.engine.malloc import trim_heap
from sfsc_service.engine.networks import Image, Networks, Vector
from sfsc_service.engine.policy import Budget, Choice, Reason, WidthCatalog, admit, check_deadline, choose
from sfsc_service.engine.scheduler import Scheduler
from sfsc_service.engine.worker_pool import Loss
from sfsc_service.errors import Kind, Problem
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings

__all__ = ["Arrival", "EmbeddedImage", "Embedder"]

log = logging.getLogger(__name__)

LONGEST_IDLE_MEASUREMENT_MS = 250.0
STALE_S = 60.0
HANG_FACTOR = 20.0
"""A batch hangs when it takes longer than the watchdog's setting, and so many times what it is predicted to."""
BULK_SLACK = 10.0
"""The service's own target for an image of a bulk call, in targets for a request of its own."""
OUTCOMES: dict[Kind, str] = {
    "queue_full": "refused",
    "deadline_unreachable": "refused",
    "deadline_passed": "missed",
}
"""What becomes of a request's time limit where it gets no vector."""


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
class EmbeddedImage:
    """A vector, float32 [D] of unit length, and how it came about; times in milliseconds."""

    vector: Vector
    width: str
    manifest: Manifest
    reason: Reason
    choice: Choice
    preprocess_ms: float
    queue_ms: float
    compute_ms: float

    def budget_met(self, arrival: Arrival) -> bool:
        """Whether an answer given now keeps the request's limits."""
        return self.choice.budget_met(arrival.elapsed_ms)


@dataclass(frozen=True, slots=True, eq=False)
class _Engine:
    """Networks and what plans for them."""

    networks: Networks
    scheduler: Scheduler

    def work(self, choice: Choice, arrival: Arrival) -> Work:
        """What the scheduler may do with a request, as of now."""
        return self.scheduler.work(choice, arrival.at, arrival.elapsed_ms, arrival.after_ms)


@dataclass(frozen=True, slots=True)
class _Queued:
    """One waiting request and the engine that it was admitted with."""

    work: Work
    engine: _Engine


_Key = tuple[Networks, str]


class Embedder:
    """The engine in front of a bundle's networks.

    Args:
        networks: to begin with; `switch` puts others in their place.
        workers: batches that are computed at a time.
    """

    def __init__(self, networks: Networks, workers: int, settings: Settings, metrics: Metrics) -> None:
        self._machine = Machine(workers, settings.max_batch, settings.slo_ms / 2)
        self.switch(networks)
        self._settings, self._metrics = settings, metrics
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._decoding = Decoding(settings.thread_count, 16 * settings.max_batch, self._limits, settings.nice)
        self.batcher: Batcher[_Key, _Queued, Image, Vector] = Batcher(
            self._plan,
            lambda key, images: key[0].run(key[1], images),
            Limits(workers, settings.queue_ms, nice=settings.nice),
            patience=self._patience,
            observe=self._observe,
            dropped=lambda cause: metrics.dropped.labels(cause).inc(),
            lost=self._lost,
        )
        # Looking a series up by its labels takes longer than counting.
        self._embeddings = functools.cache(metrics.embeddings.labels)
        self._queue_seconds = functools.cache(metrics.queue_seconds.labels)
        self._deadlines = functools.cache(metrics.deadlines.labels)
        self._compute_seconds = functools.cache(metrics.compute_seconds.labels)
        self._batch_images = functools.cache(metrics.batch_images.labels)
        self._cost_ratio = functools.cache(metrics.cost_ratio.labels)
        metrics.waiting.set_function(lambda: self.batcher.waiting)
        metrics.slowdown.set_function(lambda: self.costs.slowdown)
        metrics.level.set_function(lambda: self._engine.scheduler.level)
        metrics.backlog.set_function(lambda: self.batcher.backlog_ms(bulk=True) / 1000)
        metrics.hanging.set_function(lambda: self.batcher.worker_pool.hanging)

    @property
    def networks(self) -> Networks:
        """Those that new requests get."""
        return self._engine.networks

    @property
    def manifest(self) -> Manifest:
        """What the bundle of new requests says of itself."""
        return self.networks.manifest

    @property
    def catalog(self) -> WidthCatalog:
        """What new requests may choose from."""
        return self.networks.catalog

    @property
    def costs(self) -> CostTable:
        """What batches of new requests cost."""
        return self.networks.costs

    def switch(self, networks: Networks) -> None:
        """Give every request from now on to other networks. To be called in the event loop."""
        self._engine = _Engine(networks, Scheduler(networks.costs, self._machine))

    async def embed(
        self, data: bytes, budget: Budget, arrival: Arrival, mix: Mapping[str, int] | None = None
    ) -> EmbeddedImage:
        """Embed one encoded image.

        Args:
            mix: the gallery's items per width, where the vector is to be searched with.

        Raises:
            Problem: the wish cannot be granted, or the network failed.
            ImageError: the image cannot be taken.
        """
        engine = self._engine
        slo_ms = self._settings.slo_ms * (BULK_SLACK if arrival.bulk else 1.0)
        choice = choose(budget, engine.networks.catalog, engine.networks.costs.estimate, slo_ms, mix)
        try:
            embedded = await self._embed(engine, data, choice, arrival)
        except Problem as problem:
            if (outcome := OUTCOMES.get(problem.kind)) is not None:
                self._deadlines(choice.widths[0], choice.limit, outcome).inc()
            raise
        in_time = arrival.elapsed_ms + arrival.after_ms <= choice.limit_ms
        self._deadlines(embedded.width, choice.limit, "met" if in_time else "missed").inc()
        return embedded

    def media_type(self, data: bytes) -> str:
        """What an image is by its bytes, whatever its caller said: it goes out again to browsers."""
        return media_type(open_header(data, self._limits).format)

    async def measure_idle(self) -> None:
        """Measure one batch size that is not known yet, or one width that has become stale. For idle times."""
        for images in BUCKETS:
            for width, known in self.costs.table().items():
                wanted = images <= self._settings.max_batch and images not in known
                if wanted and self.costs.estimate(width, images) <= LONGEST_IDLE_MEASUREMENT_MS:
                    await self._decoding.run_other(self._measure, width, images)
                    return
        stale = self.costs.stale(STALE_S)
        if stale is not None:
            await self._decoding.run_other(self._measure, stale, 1)

    async def trim_heap(self) -> None:
        """Give back to the system what decoding has freed."""
        await self._decoding.run_other(trim_heap)

    def close(self, timeout_s: float) -> None:
        """Work off what was admitted, then end all threads."""
        self._decoding.close()
        self.batcher.close(timeout_s)
        self.networks.keep_costs()

    def _measure(self, width: str, images: int) -> None:
        networks = self.networks
        networks.measure(width, images)
        networks.keep_costs()

    async def _embed(self, engine: _Engine, data: bytes, choice: Choice, arrival: Arrival) -> EmbeddedImage:
        self._check_room(arrival)
        started = time.monotonic()
        late = arrival.elapsed_ms > choice.target_ms  # then those behind it in the event loop go first
        image = None if late else self._decoding.decode_now(data, engine.networks.manifest.preprocessing)
        work = engine.work(choice, arrival)
        if image is None:
            self._admit(engine, choice, work, arrival, self._decoding.backlog_ms(bulk=arrival.bulk))
            self._arrived(engine, work, arrival)
            image = await self._decode(engine, data, work, arrival)
            work = engine.work(choice, arrival)
            self._admit_decoded(engine, choice, work, arrival)
        else:
            self._admit(engine, choice, work, arrival)
            self._arrived(engine, work, arrival)
        preprocess_ms = 1000 * (time.monotonic() - started)
        self._metrics.preprocess_seconds.observe(preprocess_ms / 1000)
        answer = await self._compute(engine, image, choice, work, arrival)
        return self._embedded(answer, choice, work.ladder[0], preprocess_ms)

    def _check_room(self, arrival: Arrival) -> None:
        """Refuse, before anything is spent, what would have to wait too long to be decoded or computed."""
        self.batcher.check_room(bulk=arrival.bulk)
        waiting_ms = self._decoding.backlog_ms(bulk=arrival.bulk)
        if waiting_ms > self._settings.queue_ms:
            raise queue_full(waiting_ms, self._settings.queue_ms)

    def _admit(
        self, engine: _Engine, choice: Choice, work: Work, arrival: Arrival, before_ms: float = 0.0
    ) -> None:
        if choice.deadline_ms is None:
            return
        wait_ms = before_ms + engine.scheduler.wait_ms(self.batcher.ahead_ms(work.due), work.due, time.monotonic())
        admit(choice, engine.networks.costs.estimate, wait_ms, arrival.elapsed_ms, arrival.after_ms)

    def _arrived(self, engine: _Engine, work: Work, arrival: Arrival) -> None:
        """Images of bulk calls do not count: they come as fast as they are served, and give way to others."""
        if not arrival.bulk:
            engine.scheduler.arrived(work, arrival.at)

    def _admit_decoded(self, engine: _Engine, choice: Choice, work: Work, arrival: Arrival) -> None:
        try:
            check_deadline(choice, arrival.elapsed_ms)
            self._admit(engine, choice, work, arrival)
        except Problem:
            self._metrics.dropped.labels("deadline_passed").inc()
            raise

    async def _decode(self, engine: _Engine, data: bytes, work: Work, arrival: Arrival) -> Image:
        preprocessing = engine.networks.manifest.preprocessing
        token = object()
        engine.scheduler.expect(token, work)
        try:
            return await self._decoding.run(data, preprocessing, work.due, bulk=arrival.bulk)
        except asyncio.CancelledError:
            self._metrics.dropped.labels("client_gone").inc()
            raise
        finally:
            engine.scheduler.expected(token)

    async def _compute(
        self, engine: _Engine, image: Image, choice: Choice, work: Work, arrival: Arrival
    ) -> Answer[_Key, Vector]:
        submitted = time.monotonic()
        future = self.batcher.submit(
            image,
            _Queued(work, engine),
            due=work.due,
            expires=None if choice.deadline_ms is None else arrival.at + choice.deadline_ms / 1000,
            weight_ms=engine.networks.costs.estimate(choice.widths[0], 1),
            bulk=arrival.bulk,
        )
        try:
            answer = await future
        except Problem:
            raise
        except Exception as error:
            log.exception("a run of the network failed")
            raise Problem("inference_failed", f"the network could not compute this image: {error}") from error
        engine.scheduler.answered(1000 * (time.monotonic() - submitted) - answer.queue_ms - answer.compute_ms)
        return answer

    def _embedded(
        self, answer: Answer[_Key, Vector], choice: Choice, ideal: str, preprocess_ms: float
    ) -> EmbeddedImage:
        networks, width = answer.key
        reason: Reason = choice.reason
        if reason == "budget" and float(width) < float(ideal):
            reason = "load"
        self._embeddings(width, reason).inc()
        self._queue_seconds(width).observe(answer.queue_ms / 1000)
        return EmbeddedImage(
            answer.result,
            width,
            networks.manifest,
            reason,
            choice,
            preprocess_ms,
            answer.queue_ms,
            answer.compute_ms,
        )

    def _plan(self, queue: Sequence[_Queued], now: float, idle: int) -> tuple[_Key, Sequence[int]]:
        started = time.perf_counter()
        engine = queue[0].engine
        own = [at for at, queued in enumerate(queue) if queued.engine.networks is engine.networks]
        cut = engine.scheduler.cut([queue[at].work for at in own], now, idle)
        engine.scheduler.planned(1000 * (time.perf_counter() - started))
        return (engine.networks, cut.width), [own[member] for member in cut.members]

    def _patience(self, key: _Key, images: int) -> float:
        networks, width = key
        return max(self._settings.hang_after_s, HANG_FACTOR * networks.costs.estimate(width, images) / 1000)

    def _observe(self, batch: Batch[_Key]) -> None:
        networks, width = batch.key
        if batch.failed:
            self._metrics.failed_batches.labels(width).inc()
            return
        ratio = networks.costs.observe(width, batch.size, batch.compute_ms)
        self._cost_ratio(width).observe(ratio)
        self._compute_seconds(width).observe(batch.compute_ms / 1000)
        self._batch_images(width).observe(batch.size)

    def _lost(self, key: _Key, cause: Loss) -> None:
        log.error("a worker %s at a batch of width %s and is replaced", cause, key[1])
        self._metrics.lost_workers.labels(cause).inc()
