"""One measurement of the quality on a sample of the gallery's own stored images, which is to be run once.

Where a field of the metadata names what they show, the images search for each other; where none does, near copies
of some search for all.
"""

from dataclasses import asdict

from sfsc_bundle.manifest import MixedQuality, Quality
from sfsc_bundle.mixed_gallery import evaluate_mixed_gallery
from sfsc_bundle.retrieval import cross_width
from sfsc_service.engine.embedder import Embedder
from sfsc_service.gallery.idle import IdleWork
from sfsc_service.gallery.near_copies import NEAR_COPY
from sfsc_service.gallery.sampled_images import NotMeasurableError, SampledImages
from sfsc_service.store.protocol import Store

__all__ = ["MIN_QUERIES", "QualityMeasurement"]

ITEMS, QUERIES, MIN_QUERIES = 1_000, 250, 10
"""Images that are embedded at every width, and queries among them, at most and at least."""


class QualityMeasurement:
    """Raises InvalidFilterError: `field`, as in SampledImages, cannot be the name of a field.

    Attributes:
        images: those that are embedded.
    """

    def __init__(self, store: Store, embedder: Embedder, idle: IdleWork, field: str | None) -> None:
        self._embedder, self._idle = embedder, idle
        self.images = SampledImages(store, embedder, idle, field, ITEMS, QUERIES)

    async def run(self) -> Quality:
        """Measure. Raises NotMeasurableError, StoreError; Problem: no_worker, shutting_down."""
        sample, field = await self.images.embed(self._embedder.manifest), self.images.field
        rows = sample.queries(QUERIES)
        if len(rows) < MIN_QUERIES or len(sample.identity) < 2 or sample.identity[-1] < 1:
            needed = "images" if field is None else f"images of which others have the same {field}"
            raise NotMeasurableError(f"at least {MIN_QUERIES} {needed} are needed, found {len(rows)}")
        by_width = sample.searches(rows)
        matrix = await self._idle.call(cross_width, *by_width)
        mixed = asdict(await self._idle.call(evaluate_mixed_gallery, *by_width))
        del mixed["widths"]
        return Quality(
            dataset="images of this gallery",
            protocol=f"queries: near copies, {NEAR_COPY}" if field is None else f"identity: metadata {field}",
            widths=matrix.widths,
            mean_ap=matrix.mean_ap,
            rank1=matrix.rank1,
            queries=matrix.queries,
            gallery=len(sample.identity),
            skipped_queries=matrix.skipped,
            mixed=MixedQuality(**mixed),
        )
