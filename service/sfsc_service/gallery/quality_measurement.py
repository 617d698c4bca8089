"""One measurement of the quality on the gallery's own stored images.

A sample of the images is embedded at every width. Where a field of the metadata names what they show, the images
of the sample search for each other; where none does, near copies of some search for all.

It is bounded: in items that are looked through and drawn, in queries, and in time. An image that cannot be used is
left out.
"""

import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from sfsc_bundle.manifest import Manifest, MixedQuality, Quality
from sfsc_bundle.mixed_gallery import evaluate_mixed_gallery
from sfsc_bundle.retrieval import Floats, Labels, cross_width
from sfsc_service.engine.embedder import Embedder
from sfsc_service.errors import Problem
from sfsc_service.gallery.idle import IdleWork
from sfsc_service.gallery.near_copies import NEAR_COPY, near_copy
from sfsc_service.gallery.quality_sample import IdentitySample, identity_of
from sfsc_service.store.filters.operands import read_field
from sfsc_service.store.protocol import Store

__all__ = ["MIN_QUERIES", "NotMeasurableError", "QualityMeasurement"]

ITEMS, QUERIES, MIN_QUERIES = 1_000, 250, 10
"""Images that are embedded at every width, and queries among them, at most and at least."""
PAGE, MAX_PAGES = 250, 40_000
MOST_S = 3600.0
"""Seconds after which no further image is embedded, pauses included."""
SEED = 18

Ints = npt.NDArray[np.int64]

log = logging.getLogger(__name__)


class NotMeasurableError(Exception):
    """The gallery has not enough images that could be searched for, or another bundle is served meanwhile."""


@dataclass(slots=True)
class _Embedded:
    """Identities of images, their vectors at every width, and those of near copies of the first ones."""

    identities: list[str]
    gallery: list[list[Floats]]
    copies: list[list[Floats]]


class QualityMeasurement:
    """To be run once, while the service is idle.

    Args:
        field: the metadata that names what an image shows; None: near copies are searched with.

    Attributes:
        field: as it was given.
        drawn: images that are to be embedded; 0 until they are drawn.
        embedded: how many of them were looked at.
    """

    def __init__(self, store: Store, embedder: Embedder, idle: IdleWork, field: str | None) -> None:
        self._store, self._embedder, self._idle = store, embedder, idle
        self.field = field
        self._path = None if field is None else read_field(field, "field").path
        self.embedded = self.drawn = 0

    async def run(self) -> Quality:
        """Measure. Raises NotMeasurableError, StoreError; Problem: no_worker, shutting_down."""
        manifest = self._embedder.manifest
        sample, cursor = IdentitySample(ITEMS, SEED), None
        for _ in range(MAX_PAGES):
            cursor = await self._idle.call(self._look_through, sample, cursor)
            if cursor is None:
                break
        embedded = await self._embed(manifest, sample.items())
        query, query_labels, gallery_labels = self._searches(embedded)
        by_width = (
            _by_width(manifest, query),
            query_labels,
            _by_width(manifest, embedded.gallery),
            gallery_labels,
        )
        matrix = await self._idle.call(cross_width, *by_width)
        mixed = asdict(await self._idle.call(evaluate_mixed_gallery, *by_width))
        del mixed["widths"]
        how = f"queries: near copies, {NEAR_COPY}" if self._path is None else f"identity: metadata {self.field}"
        return Quality(
            dataset="images of this gallery",
            protocol=how,
            widths=matrix.widths,
            mean_ap=matrix.mean_ap,
            rank1=matrix.rank1,
            queries=matrix.queries,
            gallery=len(gallery_labels),
            skipped_queries=matrix.skipped,
            mixed=MixedQuality(**mixed),
        )

    def _look_through(self, sample: IdentitySample, cursor: str | None) -> str | None:
        """Let a sample see one page of items; the cursor of the next one."""
        page = self._store.page(cursor, PAGE)
        for item in page.items:
            identity = item.id if self._path is None else identity_of(item.metadata, self._path)
            if item.image_digest is not None and identity is not None:
                sample.add(identity, item.id)
        return page.cursor

    async def _embed(self, manifest: Manifest, drawn: list[tuple[str, str]]) -> _Embedded:
        ends = time.monotonic() + MOST_S
        self.drawn = len(drawn)
        made = _Embedded([], [], [])
        for identity, item_id in drawn:
            if time.monotonic() > ends:
                break
            with_copy = self._path is None and len(made.copies) < QUERIES
            vectors = await self._vectors(manifest, item_id, with_copy=with_copy)
            if self._embedder.manifest is not manifest:
                raise NotMeasurableError("another bundle is served now")
            self.embedded += 1
            if vectors:
                made.identities.append(identity)
                made.gallery.append(vectors[0])
                made.copies += vectors[1:]
        return made

    async def _vectors(self, manifest: Manifest, item_id: str, *, with_copy: bool) -> list[list[Floats]]:
        """An image's vectors at every width, then those of its near copy; none where it cannot be embedded."""
        try:
            stored = await self._idle.call(self._store.image, item_id)
            if stored is None:
                return []
            images = [stored.data]
            if with_copy:
                side = 2 * max(manifest.preprocessing.width, manifest.preprocessing.height)
                preview = await self._idle.preview(stored.data, side)
                images.append(await self._idle.call(near_copy, preview, item_id))
            return [
                [(await self._idle.embed(image, width)).vector for width in manifest.widths] for image in images
            ]
        except Problem as problem:
            if problem.code in ("no_worker", "shutting_down"):
                raise
            log.warning("the image of the item %r is left out of the measurement: %s", item_id, problem.detail)
        except Exception as error:
            log.warning("the image of the item %r is left out of the measurement: %r", item_id, error)
        return []

    def _searches(self, made: _Embedded) -> tuple[list[list[Floats]], Labels, Labels]:
        """The queries, what they show, and what the gallery shows."""
        numbers = {identity: number for number, identity in enumerate(dict.fromkeys(made.identities))}
        labels = np.array([numbers[identity] for identity in made.identities], np.int64)
        rows = np.arange(len(made.copies)) if self._path is None else _rows_with_others(labels)
        if len(rows) < MIN_QUERIES or len(numbers) < 2:
            needed = "images" if self._path is None else f"images of which others have the same {self.field}"
            raise NotMeasurableError(f"at least {MIN_QUERIES} {needed} are needed, found {len(rows)}")
        if self._path is None:
            return made.copies, Labels(labels[rows]), Labels(labels)
        every = np.arange(len(labels))
        return [made.gallery[row] for row in rows], Labels(labels[rows], image=rows), Labels(labels, image=every)


def _rows_with_others(labels: Ints) -> Ints:
    """At most QUERIES rows whose label others have, too, drawn at random, ascending."""
    counts = Counter(labels.tolist())
    rows = np.array([row for row, label in enumerate(labels.tolist()) if counts[label] > 1], np.int64)
    return np.sort(np.random.default_rng(SEED).permutation(rows)[:QUERIES])


def _by_width(manifest: Manifest, vectors: list[list[Floats]]) -> dict[str, Floats]:
    return {width: np.stack([one[at] for one in vectors]) for at, width in enumerate(manifest.widths)}
