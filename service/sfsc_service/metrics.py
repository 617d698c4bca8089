"""Every Prometheus metric of the service: name, labels, buckets. Each app has a registry of its own."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from sfsc_bundle.manifest import Manifest, Quality

__all__ = ["HEAL_OUTCOMES", "HealOutcome", "IdleTask", "Metrics"]

HealOutcome = Literal["healed", "changed", "differs", "unreadable", "failed"]
"""What became of an item that was to be embedded again. changed: it was changed meanwhile; differs: its image does
not give its vector; unreadable: its image cannot be read; failed: the network gave no vector."""
HEAL_OUTCOMES = get_args(HealOutcome)
IdleTask = Literal["heal", "quality", "align"]
"""What the service does by itself while it is idle."""

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RATIOS = (0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The service's metrics; `width` is the canonical name ("0.25"), `route` the path template."""

    def __init__(self) -> None:
        registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.registry = registry
        self._widths: frozenset[str] = frozenset()
        self._add_http(registry)
        self._add_embedding(registry)
        self._add_load(registry)
        self._add_gallery(registry)
        self._add_store(registry)
        self._add_idle(registry)
        self._add_state(registry)

    def announce(self, manifest: Manifest) -> None:
        """Export which bundle is served, and create the series of all its widths, so that they start at zero."""
        self._widths = frozenset(manifest.widths)
        self.bundle.clear()
        self.bundle.labels(manifest.name, manifest.space).set(1)
        by_width = (
            self.queue_seconds,
            self.compute_seconds,
            self.batch_images,
            self.cost_ratio,
            self.failed_batches,
            self.searches,
        )
        for width in manifest.widths:
            self.embeddings.labels(width, "requested")
            for metric in by_width:
                metric.labels(width)
        for counter, labels in (
            (self.lost_workers, ("hung", "died")),
            (self.refused_connections, ("too_many", "no_head", "long_head", "pipelined", "unread")),
            (self.swaps, ("done", "refused", "failed")),
            (self.heal_items, HEAL_OUTCOMES),
            (self.idle_failures, get_args(IdleTask)),
            (self.align_items, ("converted", "changed")),
        ):
            for label in labels:
                counter.labels(label)

    def width_label(self, width: str) -> str:
        """The label of a width: "other" where the bundle lacks it, because callers bring vectors of any width."""
        return width if width in self._widths else "other"

    def set_items(self, compositions: Mapping[str, Mapping[str, int]]) -> None:
        """Set the number of items per width in every collection."""
        self.items.clear()
        for collection, composition in compositions.items():
            for width, count in composition.items():
                self.items.labels(collection, self.width_label(width)).inc(count)

    def set_quality(self, quality: Quality, measured: datetime | None) -> None:
        """Set the quality in force; `measured`: when it was measured on the gallery, None for the bundle's own."""
        self.quality.clear()
        source = "bundle" if measured is None else "gallery"
        for width, points in zip(quality.widths, quality.mixed.mean_ap, strict=True):
            self.quality.labels(width, source).set(points)
        self.quality_measured.set(0.0 if measured is None else measured.timestamp())

    def render(self) -> bytes:
        """The text format that Prometheus reads."""
        return generate_latest(self.registry)

    def _add_http(self, registry: CollectorRegistry) -> None:
        """What the front door sees."""
        self.http_requests = Counter(
            "sfsc_http_requests",
            "Requests answered, by route and status",
            ["method", "route", "status"],
            registry=registry,
        )
        self.http_seconds = Histogram(
            "sfsc_http_seconds", "Seconds from request to answer", ["route"], buckets=SECONDS, registry=registry
        )
        self.open_requests = Gauge(
            "sfsc_open_requests", "Requests received and not answered yet", registry=registry
        )
        self.problems = Counter(
            "sfsc_problems", "Requests answered with a problem, by its code", ["code"], registry=registry
        )
        self.refused_connections = Counter(
            "sfsc_refused_connections",
            "Connections closed for breaking a limit, by cause",
            ["cause"],
            registry=registry,
        )

    def _add_embedding(self, registry: CollectorRegistry) -> None:
        """What becomes of images, from decoding to the vector."""
        self.embeddings = Counter(
            "sfsc_embeddings", "Images embedded, by width and why it was chosen", ["width", "reason"],
            registry=registry,
        )  # fmt: skip
        self.preprocess_seconds = Histogram(
            "sfsc_preprocess_seconds", "Seconds to decode and resize one image", buckets=SECONDS, registry=registry
        )
        self.queue_seconds = Histogram(
            "sfsc_queue_seconds", "Seconds an image waited in the queue for a worker", ["width"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.compute_seconds = Histogram(
            "sfsc_compute_seconds",
            "Seconds a worker took for a batch",
            ["width"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_images = Histogram(
            "sfsc_batch_images", "Images in a batch", ["width"], buckets=SIZES, registry=registry
        )
        self.cost_ratio = Histogram(
            "sfsc_cost_ratio", "Time of a batch divided by its predicted time", ["width"], buckets=RATIOS,
            registry=registry,
        )  # fmt: skip
        self.deadlines = Counter(
            "sfsc_deadlines", "Images by kind of time limit (hard: deadline_ms, soft: others) and outcome",
            ["width", "limit", "outcome"], registry=registry,
        )  # fmt: skip
        self.dropped = Counter(
            "sfsc_dropped", "Images dropped before they were computed, by cause", ["cause"], registry=registry
        )

    def _add_load(self, registry: CollectorRegistry) -> None:
        """What waits, how the service adapts to it, and what fails."""
        self.waiting = Gauge("sfsc_queue_images", "Images waiting in the queue", registry=registry)
        self.backlog = Gauge(
            "sfsc_queue_predicted_seconds",
            "Predicted seconds until every image in the queue has been started",
            registry=registry,
        )
        self.bulk_backlog = Gauge(
            "sfsc_bulk_predicted_seconds",
            "Predicted seconds until the images that bulk calls have in work now have got through",
            registry=registry,
        )
        self.slowdown = Gauge(
            "sfsc_slowdown", "Time of batches now divided by their time on an idle machine", registry=registry
        )
        self.level = Gauge(
            "sfsc_degradation_steps",
            "By how many widths the load narrows requests that leave the width open",
            registry=registry,
        )
        self.failed_batches = Counter(
            "sfsc_failed_batches",
            "Runs of a network that raised an error or gave unusable vectors",
            ["width"],
            registry=registry,
        )
        self.lost_workers = Counter(
            "sfsc_lost_workers", "Workers that hung or died, by cause", ["cause"], registry=registry
        )
        self.hanging = Gauge("sfsc_hanging_workers", "Abandoned workers that still hang", registry=registry)

    def _add_gallery(self, registry: CollectorRegistry) -> None:
        """What the gallery holds and how it is searched."""
        self.searches = Counter(
            "sfsc_searches", "Searches, by the width of the query's vector", ["width"], registry=registry
        )
        self.search_seconds = Histogram(
            "sfsc_search_seconds", "Seconds in the store per search", buckets=SECONDS, registry=registry
        )
        self.search_batch = Histogram(
            "sfsc_search_batch_queries",
            "Searches without a filter that were made in one call of the store",
            buckets=SIZES,
            registry=registry,
        )
        self.search_backlog = Gauge(
            "sfsc_search_queue_predicted_seconds",
            "Predicted seconds until one more search begins",
            registry=registry,
        )
        self.items = Gauge(
            "sfsc_gallery_items",
            "Items, by their collection and the width of their vector",
            ["collection", "width"],
            registry=registry,
        )

    def _add_store(self, registry: CollectorRegistry) -> None:
        """What the store takes on disk, and how long its work in the background takes."""
        self.store_seconds = Histogram(
            "sfsc_store_seconds",
            "Seconds the store took to commit a group of changes, or to write a segment of vectors anew (merge)",
            ["work"],
            buckets=SECONDS,
            registry=registry,
        )
        self.store_rows = Gauge(
            "sfsc_store_rows",
            "Vectors in the stores of all collections: live, and dead ones, whose items were deleted or replaced",
            ["state"],
            registry=registry,
        )
        self.store_log_bytes = Gauge(
            "sfsc_store_log_bytes", "Bytes of the write-ahead logs of all databases", registry=registry
        )
        self.store_vector_files = Gauge(
            "sfsc_store_vector_files", "Files that hold the vectors: segments and logs", registry=registry
        )
        self.store_free_bytes = Gauge(
            "sfsc_store_free_bytes", "Free bytes on the disk of the data folder", registry=registry
        )
        self.store_columns_failed = Gauge(
            "sfsc_store_columns_failed",
            "1 where the columns that filters are judged by failed: until the next start, the database is asked",
            registry=registry,
        )

    def _add_idle(self, registry: CollectorRegistry) -> None:
        """What the service does by itself while it is idle."""
        self.heal_items = Counter(
            "sfsc_heal_items",
            "Items that were to be embedded again at a wider width, by outcome",
            ["outcome"],
            registry=registry,
        )
        self.heal_unchecked = Gauge(
            "sfsc_heal_unchecked_items",
            "Items narrower than the width to heal to that the present pass has not looked at yet",
            registry=registry,
        )
        self.quality = Gauge(
            "sfsc_quality_mean_ap_points",
            "mAP in a gallery of mixed widths, by the query's width and by its source: bundle or gallery",
            ["width", "source"],
            registry=registry,
        )
        self.quality_measured = Gauge(
            "sfsc_quality_measured_timestamp_seconds",
            "When the quality in force was measured on the gallery's own images; 0 where it is the bundle's",
            registry=registry,
        )
        self.aligned = Gauge(
            "sfsc_aligned", "1 while an alignment on the gallery's own images is in force", registry=registry
        )
        self.align_items = Counter(
            "sfsc_align_items",
            "Items whose vector was to be brought into the space in force, by outcome",
            ["outcome"],
            registry=registry,
        )
        self.align_unchecked = Gauge(
            "sfsc_align_unchecked_items",
            "Items that the conversion of stored vectors has not looked at yet",
            registry=registry,
        )
        self.idle_failures = Counter(
            "sfsc_idle_failures", "Errors that ended work for idle moments, by its kind", ["work"],
            registry=registry,
        )  # fmt: skip

    def _add_state(self, registry: CollectorRegistry) -> None:
        """What is served, and whether the service can take work."""
        self.bundle = Gauge("sfsc_bundle", "1 for the bundle being served", ["model", "space"], registry=registry)
        self.swaps = Counter(
            "sfsc_swaps",
            "Bundle swaps on SIGHUP or for an alignment, by outcome (done, refused, failed)",
            ["outcome"],
            registry=registry,
        )
        self.health_failures = Counter(
            "sfsc_health_failures", "Rounds of the health check that raised an unexpected error", registry=registry
        )
        self.store_fault = Gauge(
            "sfsc_store_fault",
            "1 while the store cannot read or change items, by cause",
            ["cause"],
            registry=registry,
        )
        self.ready = Gauge("sfsc_ready", "1 while the service can take work", registry=registry)
