"""Bytes → vector: decode, choose the width, wait for a worker, compute, check.

The times that batches take correct the cost table by which widths are chosen.

A request is computed by the networks that it was admitted with, from preprocessing to vector, even if a swap puts
others in their place meanwhile: vector, width, space and model of an answer always belong together.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sfsc_bundle.crop import Crop
from sfsc_bundle.header import ImageLimits
from sfsc_bundle.manifest import Manifest, Preprocessing, Quality
from sfsc_service.engine.activity import Activity
from sfsc_service.engine.arrival import Arrival
from sfsc_service.engine.batch_plan import Capacity, Work
from sfsc_service.engine.batch_problems import queue_full, queue_timeout
from sfsc_service.engine.batcher import BatchedResult, Batcher, BatcherLimits, BatchRun
from sfsc_service.engine.bulk_turns import BulkTurns
from sfsc_service.engine.costs import CostTable
from sfsc_service.engine.decode_memory import DecodeMemory
from sfsc_service.engine.decoding import DecodedImage, Decoding
from sfsc_service.engine.malloc import trim_heap
from sfsc_service.engine.networks import Image, Networks, Vector
from sfsc_service.engine.policy import (
    Budget,
    Choice,
    Reason,
    WidthCatalog,
    check_deadline_not_passed,
    check_deadline_reachable,
    choose_widths,
)
from sfsc_service.engine.previews import Previews, previews_at_once
from sfsc_service.engine.scheduler import Scheduler
from sfsc_service.engine.served_bundle import BatchKey, QueuedRequest, ServedBundle, plan_for_most_urgent
from sfsc_service.engine.tracing import record_step
from sfsc_service.engine.worker_pool import Loss
from sfsc_service.errors import Code, Problem
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings

__all__ = ["Arrival", "EmbeddedImage", "Embedder"]

log = logging.getLogger(__name__)

HANG_FACTOR = 20.0
"""A run hangs when it takes longer than `hang_after_s` and this many times its prediction."""
BULK_SLACK = 10.0
"""The latency target of an image of a bulk call, and its bound on waiting, in multiples of the service's own."""
BULK_LIMIT_S = 20.0
"""How long images of a bulk call may take at least, however short the others' waits are: a bulk load would rather
wait."""
OUTCOMES: dict[Code, str] = {
    "queue_full": "refused",
    "queue_timeout": "missed",
    "deadline_unreachable": "refused",
    "deadline_passed": "missed",
}
"""What becomes of the time limit of a request that gets no vector, by the problem that it is answered with."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedImage:
    """A vector, float32 [D] of unit length, and how it was computed; times in milliseconds.

    `media_type` is the image's by its bytes, whatever its caller said: it goes out again to browsers.
    """

    vector: Vector
    media_type: str
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


class Embedder:
    """Decoding, admission and batching in front of a bundle's networks.

    Args:
        networks: the first ones; `switch` replaces them.
        workers: batches that are computed at a time.
        decode_bytes: memory that images may take while they are decoded.
    """

    def __init__(
        self, networks: Networks, workers: int, settings: Settings, metrics: Metrics, decode_bytes: int
    ) -> None:
        self._capacity = Capacity(workers, settings.max_batch, settings.slo_ms / 2)
        self.switch(networks)
        self._settings, self._metrics = settings, metrics
        limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels, settings.formats)
        threads = settings.thread_count
        at_once = previews_at_once(threads, decode_bytes, settings.max_image_bytes)
        memory = DecodeMemory(decode_bytes, threads + at_once, settings.queue_ms / 1000)
        self._decoding = Decoding(threads, 16 * settings.max_batch, limits, memory, settings.nice)
        self.previews = Previews(self._decoding, at_once, settings.queue_ms, settings.nice)
        self._bulk_turns = BulkTurns()
        self.activity = Activity()
        self.batcher: Batcher[BatchKey, QueuedRequest, Image, Vector] = Batcher(
            plan_for_most_urgent,
            lambda key, images: key[0].run(key[1], images),
            BatcherLimits(workers, settings.queue_ms, nice=settings.nice),
            hang_after=self._hang_after,
            observe=self._observe,
            dropped=lambda reason: metrics.dropped.labels(reason).inc(),
            lost=self._lost,
        )
        metrics.waiting.set_function(lambda: self.batcher.waiting)
        metrics.slowdown.set_function(lambda: self.costs.slowdown)
        metrics.level.set_function(lambda: self._served.scheduler.level)
        metrics.backlog.set_function(lambda: self.batcher.backlog_ms(bulk=True) / 1000)
        metrics.hanging.set_function(lambda: self.batcher.worker_pool.hanging)

    @property
    def networks(self) -> Networks:
        """The networks of new requests."""
        return self._served.networks

    @property
    def manifest(self) -> Manifest:
        """The manifest of new requests' bundle."""
        return self.networks.manifest

    @property
    def catalog(self) -> WidthCatalog:
        """The widths that new requests may get."""
        return self.networks.catalog

    @property
    def costs(self) -> CostTable:
        """What batches of new requests cost."""
        return self.networks.costs

    def switch(self, networks: Networks) -> None:
        """Give every request from now on to other networks. To be called in the event loop."""
        self._served = ServedBundle(networks, Scheduler(networks.costs, self._capacity))

    async def embed(
        self,
        data: bytes,
        budget: Budget,
        arrival: Arrival,
        mix: Mapping[str, int] | None = None,
        crop: Crop | None = None,
    ) -> EmbeddedImage:
        """Embed one encoded image, or the part of it in a crop.

        Args:
            mix: the gallery's items per width, if the vector is to be searched with.

        Raises:
            Problem: the budget cannot be met, the service is overloaded or shutting down, or the network failed.
            ImageError: the image is not accepted.
        """
        if arrival.own:
            return await self._embed_within(data, budget, arrival, mix or {}, crop)
        with self.activity:
            return await self._embed_within(data, budget, arrival, mix or {}, crop)

    async def _embed_within(
        self, data: bytes, budget: Budget, arrival: Arrival, mix: Mapping[str, int], crop: Crop | None
    ) -> EmbeddedImage:
        bundle = self._served
        slo_ms = self._settings.slo_ms * (BULK_SLACK if arrival.bulk else 1.0)
        choice = choose_widths(budget, bundle.networks.catalog, bundle.networks.costs.estimate, slo_ms, mix)
        try:
            embedded = await self._embed(bundle, data, crop, choice, arrival)
        except Problem as problem:
            outcome = OUTCOMES.get(problem.code)
            if outcome is not None and not arrival.own and not arrival.is_repeated_after(problem):
                self._metrics.deadlines.labels(choice.widths[0], choice.limit, outcome).inc()
            raise
        if not arrival.own:
            in_time = arrival.elapsed_ms + arrival.after_ms <= choice.limit_ms
            self._metrics.deadlines.labels(embedded.width, choice.limit, "met" if in_time else "missed").inc()
            self._metrics.embeddings.labels(embedded.width, embedded.reason).inc()
            self._metrics.queue_seconds.labels(embedded.width).observe(embedded.queue_ms / 1000)
            self._metrics.preprocess_seconds.observe(embedded.preprocess_ms / 1000)
        return embedded

    def use_quality(self, quality: Quality) -> None:
        """Choose widths by these figures from now on, until the next `switch`. To be called in the event loop."""
        self.networks.catalog = self.networks.catalog.with_quality(quality)

    @property
    def idle_s(self) -> float:
        """Seconds since the last request; 0 while anything is computed, or costs are still to be measured."""
        busy = not self.batcher.idle or self.networks.next_measurement(self._settings.max_batch) is not None
        return 0.0 if busy else self.activity.idle_s

    def decode_here(self, data: bytes, preprocessing: Preprocessing) -> Image:
        """Pixels, uint8 [H, W, 3], of a stored image, decoded in the calling thread for work of the service's own.

        Raises:
            Problem: queue_full, out_of_memory.
            ImageError: the image is not accepted any more.
        """
        return self._decoding.decode_here(data, preprocessing)

    async def measure_idle(self) -> None:
        """Measure one batch size that is not known yet, or one stale width. To be called while all is idle."""
        wanted = self.networks.next_measurement(self._settings.max_batch)
        if wanted is not None:
            await self._decoding.run_other(self._measure, *wanted)

    def bulk_limit_s(self, images: float) -> float:
        """Seconds that so many images of a bulk call may take: many times what they take on an idle machine."""
        run_ms = images * self.costs.estimate(self.catalog.widths[-1], 1) / self._capacity.workers
        alone_ms = run_ms + self._decoding.predicted_ms(images)
        return max(BULK_LIMIT_S, BULK_SLACK * max(self._settings.queue_ms, alone_ms) / 1000)

    async def trim_heap(self) -> None:
        """Return to the system what decoding has freed."""
        await self._decoding.run_other(trim_heap)

    def close(self, timeout_s: float) -> None:
        """Compute what was admitted, then end all threads."""
        self.previews.close()
        self._decoding.close()
        self.batcher.close(timeout_s)
        self.networks.keep_costs()

    def _measure(self, width: str, images: int) -> None:
        networks = self.networks
        networks.measure(width, images)
        networks.keep_costs()

    async def _embed(
        self, bundle: ServedBundle, data: bytes, crop: Crop | None, choice: Choice, arrival: Arrival
    ) -> EmbeddedImage:
        self.batcher.check_not_full(bulk=arrival.bulk, waited_ms=arrival.waited_ms)
        started = time.monotonic()
        until = self._waits_until(arrival, started)
        preprocessing = bundle.networks.manifest.preprocessing
        if arrival.bulk:
            image = await self._bulk_turns.run(lambda: self._decoding.decode_now(data, preprocessing, crop))
        else:
            if arrival.elapsed_ms > choice.target_ms:
                await asyncio.sleep(0)  # a request that is late lets those behind it in the event loop go first
            image = self._decoding.decode_now(data, preprocessing, crop)
        work = bundle.work(choice, arrival)
        if image is None:
            decode_wait_ms = self._decode_wait_ms(arrival)
            self._admit(bundle, choice, work, arrival, decode_wait_ms)
            image = await self._decode(bundle, data, crop, work, arrival, until)
            work = bundle.work(choice, arrival)
            self._check_deadline_again(bundle, choice, work, arrival)
        else:
            self._admit(bundle, choice, work, arrival)
        decoded = time.monotonic()
        record_step("decode", started, decoded)
        preprocess_ms = 1000 * (decoded - started)
        computed = await self._compute(bundle, image.pixels, choice, work, arrival, until)
        return _embedded(computed, image.media_type, choice, work.ladder[0], preprocess_ms)

    def _waits_until(self, arrival: Arrival, now: float) -> float:
        """When an image has waited for too long to be computed, in all queues. Raises Problem: queue_timeout."""
        until = arrival.waits_until(self._settings.queue_ms * (BULK_SLACK if arrival.bulk else 1.0), now)
        if now >= until:
            self._metrics.dropped.labels("queue_timeout").inc()
            raise queue_timeout()
        return until

    def _decode_wait_ms(self, arrival: Arrival) -> float:
        """Predicted time until an image begins to be decoded. Raises Problem: queue_full, where it is too long."""
        waiting_ms = self._decoding.backlog_ms(bulk=arrival.bulk)
        if waiting_ms > self._settings.queue_ms:
            raise queue_full(waiting_ms, self._settings.queue_ms)
        return waiting_ms

    def _admit(
        self, bundle: ServedBundle, choice: Choice, work: Work, arrival: Arrival, decode_wait_ms: float = 0.0
    ) -> None:
        """Refuse a deadline that cannot be met; otherwise more requests like this one are to be expected.

        Not so after images of bulk calls, which come as fast as they are answered, nor after canaries.
        """
        self._check_deadline(bundle, choice, work, arrival, decode_wait_ms)
        if not (arrival.bulk or arrival.own):
            bundle.scheduler.observe_arrival(work, arrival.at)

    def _check_deadline(
        self, bundle: ServedBundle, choice: Choice, work: Work, arrival: Arrival, decode_wait_ms: float = 0.0
    ) -> None:
        if choice.deadline_ms is None:
            return
        queued_ms = self.batcher.backlog_before_ms(work.due)
        wait_ms = decode_wait_ms + bundle.scheduler.wait_ms(queued_ms, work.due, time.monotonic())
        estimate = bundle.networks.costs.estimate
        check_deadline_reachable(choice, estimate, wait_ms, arrival.elapsed_ms, arrival.after_ms)

    def _check_deadline_again(self, bundle: ServedBundle, choice: Choice, work: Work, arrival: Arrival) -> None:
        """Drop a decoded image whose deadline has passed or can no longer be met."""
        try:
            check_deadline_not_passed(choice, arrival.elapsed_ms)
            self._check_deadline(bundle, choice, work, arrival)
        except Problem:
            self._metrics.dropped.labels("deadline_passed").inc()
            raise

    async def _decode(
        self, bundle: ServedBundle, data: bytes, crop: Crop | None, work: Work, arrival: Arrival, until: float
    ) -> DecodedImage:
        preprocessing = bundle.networks.manifest.preprocessing
        token = object()
        bundle.scheduler.decoding_began(token, work)
        try:
            return await self._decoding.run(
                data, preprocessing, work.due, crop=crop, bulk=arrival.bulk, until=until
            )
        except asyncio.CancelledError:
            self._metrics.dropped.labels("client_gone").inc()
            raise
        except Problem as problem:
            if problem.code == "queue_timeout":
                self._metrics.dropped.labels("queue_timeout").inc()
            raise
        finally:
            bundle.scheduler.decoding_ended(token)

    async def _compute(
        self,
        bundle: ServedBundle,
        image: Image,
        choice: Choice,
        work: Work,
        arrival: Arrival,
        until: float,
    ) -> BatchedResult[BatchKey, Vector]:
        submitted = time.monotonic()
        future = self.batcher.submit(
            image,
            QueuedRequest(work, bundle),
            due=work.due,
            expires=None if choice.deadline_ms is None else arrival.at + choice.deadline_ms / 1000,
            times_out=until,
            cost_ms=bundle.networks.costs.estimate(choice.widths[0], 1),
            bulk=arrival.bulk,
        )
        try:
            computed = await future
        except Problem:
            raise
        except Exception as error:
            log.exception("a network run failed; its request is answered with inference_failed")
            raise Problem("inference_failed", f"the network could not compute this image: {error}") from error
        began = submitted + computed.queue_ms / 1000
        record_step("queue", submitted, began)
        record_step("compute", began, began + computed.compute_ms / 1000, width=computed.key[1])
        took_ms = 1000 * (time.monotonic() - submitted)
        bundle.scheduler.observe_return(took_ms - computed.queue_ms - computed.compute_ms)
        return computed

    def _hang_after(self, key: BatchKey, images: int) -> float:
        networks, width = key
        return max(self._settings.hang_after_s, HANG_FACTOR * networks.costs.estimate(width, images) / 1000)

    def _observe(self, run: BatchRun[BatchKey]) -> None:
        networks, width = run.key
        if run.failed:
            self._metrics.failed_batches.labels(width).inc()
            return
        ratio = networks.costs.observe(width, run.size, run.compute_ms)
        self._metrics.cost_ratio.labels(width).observe(ratio)
        self._metrics.compute_seconds.labels(width).observe(run.compute_ms / 1000)
        self._metrics.batch_images.labels(width).observe(run.size)

    def _lost(self, key: BatchKey, cause: Loss) -> None:
        log.error("a batch worker %s while it computed a batch of width %s; it is replaced", cause, key[1])
        self._metrics.lost_workers.labels(cause).inc()


def _embedded(
    computed: BatchedResult[BatchKey, Vector], media_type: str, choice: Choice, ideal: str, preprocess_ms: float
) -> EmbeddedImage:
    networks, width = computed.key
    reason: Reason = choice.reason
    if reason == "budget" and width != ideal:
        reason = "load"
    times_ms = (preprocess_ms, computed.queue_ms, computed.compute_ms)
    return EmbeddedImage(computed.result, media_type, width, networks.manifest, reason, choice, *times_ms)
