"""A sample of the gallery's stored images, embedded at every width while the service is idle.

Where a field of the metadata names what they show, the sample is one of these identities; where none does, each
image is one of its own, and near copies of the first ones are embedded, too, to be searched with.

It is bounded: in items that are looked through and drawn, in near copies, and in time. An image that cannot be
used is left out.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sfsc_bundle.linear_maps import apply_map
from sfsc_bundle.manifest import Manifest
from sfsc_bundle.retrieval import Floats, Labels
from sfsc_service.engine.embedder import Embedder
from sfsc_service.errors import Problem
from sfsc_service.gallery.identity_sample import IdentitySample, identity_of
from sfsc_service.gallery.idle import IdleWork
from sfsc_service.gallery.near_copies import near_copy
from sfsc_service.store.filters.operands import read_field
from sfsc_service.store.protocol import Store

__all__ = ["SEED", "EmbeddedSample", "NotMeasurableError", "SampledImages"]

PAGE, MAX_PAGES = 250, 40_000
MOST_S = 3600.0
"""Seconds after which no further image is embedded, pauses included."""
SEED = 18

Ints = npt.NDArray[np.int64]

log = logging.getLogger(__name__)


class NotMeasurableError(Exception):
    """The gallery has not enough images, another bundle is served meanwhile, or nobody wants it any more."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedSample:
    """n images: what each shows, int64 [n] ascending, and their vectors, by width, [n, D].

    `copies`: those of near copies of the first c images, [c, D]; None where identities were named.
    """

    identity: Ints
    images: dict[str, Floats]
    copies: dict[str, Floats] | None

    def part(self, rows: slice) -> "EmbeddedSample":
        """Some of the images, and those of their near copies that there are."""
        images, copies = (
            None if of is None else {width: vectors[rows] for width, vectors in of.items()}
            for of in (self.images, self.copies)
        )
        assert images is not None
        return EmbeddedSample(self.identity[rows], images, copies)

    def mapped(self, maps: Mapping[str, Floats]) -> "EmbeddedSample":
        """The same images with the vectors of some widths multiplied by maps."""

        def mapped(of: dict[str, Floats]) -> dict[str, Floats]:
            return {w: apply_map(rows, maps[w]) if w in maps else rows for w, rows in of.items()}

        return EmbeddedSample(
            self.identity, mapped(self.images), None if self.copies is None else mapped(self.copies)
        )

    def queries(self, most: int) -> Ints:
        """Images to search for: those with a near copy, or at most `most` of which others show the same."""
        if self.copies is not None:
            return np.arange(len(next(iter(self.copies.values()))))
        counts = Counter(self.identity.tolist())
        rows = np.array([row for row, one in enumerate(self.identity.tolist()) if counts[one] > 1], np.int64)
        return np.sort(np.random.default_rng(SEED).permutation(rows)[:most])

    def searches(self, queries: Ints) -> tuple[dict[str, Floats], Labels, dict[str, Floats], Labels]:
        """Vectors by width and labels of some of `queries`, and those of all images, which they search."""
        if self.copies is not None:
            vectors = {width: rows[queries] for width, rows in self.copies.items()}
            return vectors, Labels(self.identity[queries]), self.images, Labels(self.identity)
        vectors = {width: rows[queries] for width, rows in self.images.items()}
        every = np.arange(len(self.identity))
        found = Labels(self.identity[queries], image=queries)
        return vectors, found, self.images, Labels(self.identity, image=every)


class SampledImages:
    """To be embedded once.

    Args:
        field: the metadata that names what an image shows; None: near copies are made.
        most: images that are drawn; `copies`: near copies that are made of them, if any are.

    Attributes:
        field: as it was given.
        drawn: images that are to be embedded; 0 until they are drawn.
        embedded: how many of them were looked at.
    """

    def __init__(
        self, store: Store, embedder: Embedder, idle: IdleWork, field: str | None, most: int, copies: int
    ) -> None:
        self._store, self._embedder, self._idle = store, embedder, idle
        self.field = field
        self._path = None if field is None else read_field(field, "field").path
        self._most, self._copies = most, copies if self._path is None else 0
        self._stopped = False
        self.embedded = self.drawn = 0

    def stop(self) -> None:
        """Let `embed` end, unless it is done."""
        self._stopped = True

    async def embed(self, manifest: Manifest) -> EmbeddedSample:
        """Draw and embed. Raises NotMeasurableError, StoreError; Problem: no_worker, shutting_down."""
        sample, cursor = IdentitySample(self._most, SEED), None
        for _ in range(MAX_PAGES):
            cursor = await self._idle.call(self._look_through, sample, cursor)
            self._check_wanted(manifest)
            if cursor is None:
                break
        return await self._embed(manifest, sample.items())

    def _look_through(self, sample: IdentitySample, cursor: str | None) -> str | None:
        """Let a sample see one page of items; the cursor of the next one."""
        page = self._store.page(cursor, PAGE)
        for item in page.items:
            identity = item.id if self._path is None else identity_of(item.metadata, self._path)
            if item.image_digest is not None and identity is not None:
                sample.add(identity, item.id)
        return page.cursor

    async def _embed(self, manifest: Manifest, drawn: list[tuple[str, str]]) -> EmbeddedSample:
        ends = time.monotonic() + MOST_S
        self.drawn = len(drawn)
        identities = list[str]()
        images, copies = list[list[Floats]](), list[list[Floats]]()
        for identity, item_id in drawn:
            if time.monotonic() > ends:
                break
            vectors = await self._vectors(manifest, item_id, with_copy=len(copies) < self._copies)
            self._check_wanted(manifest)
            self.embedded += 1
            if vectors:
                identities.append(identity)
                images.append(vectors[0])
                copies += vectors[1:]
        numbers = {identity: number for number, identity in enumerate(dict.fromkeys(identities))}
        return EmbeddedSample(
            np.array([numbers[identity] for identity in identities], np.int64),
            _by_width(manifest, images),
            _by_width(manifest, copies) if self._path is None else None,
        )

    def _check_wanted(self, manifest: Manifest) -> None:
        if self._embedder.manifest is not manifest:
            raise NotMeasurableError("another bundle is served now")
        if self._stopped:
            raise NotMeasurableError("nobody wants it any more")

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
            log.warning("the image of the item %r is left out of the sample: %s", item_id, problem.detail)
        except Exception as error:
            log.warning("the image of the item %r is left out of the sample: %r", item_id, error)
        return []


def _by_width(manifest: Manifest, vectors: list[list[Floats]]) -> dict[str, Floats]:
    empty = np.empty((0, manifest.dimension), np.float32)
    return {
        width: np.stack([one[at] for one in vectors]) if vectors else empty
        for at, width in enumerate(manifest.widths)
    }
