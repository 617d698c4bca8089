"""The store's interface to the gallery, and what every implementation promises.

- A change (`upsert`, `patch_metadata`, `delete`) that has returned is durable, and every later call sees it.
- A change that raised has not happened, unless it raised OutcomeUnknownError or the process died during it: then
  each of its items is either as it was or as the call wanted it. It is safe to repeat the call.
- An item is never a mixture of two versions. A hit's score, metadata, width and image belong to one version, even
  while others change the item.
- `upsert` of one id twice in a call leaves the last one. Answers are in the order of the items.
- `search` is exact but for rounding: scores are inner products of the stored and the query vector, right to
  SCORE_TOLERANCE, and a better item is left out only where the scores differ by less. Hits descend by score; the
  order of equal scores is the store's own.
- `page` ascends by id, code point by code point. An item that is there throughout is listed exactly once,
  whatever else is written between two pages.
- `search_approximately` may leave out any item, but the hits that it has are as those of `search`.
- Vectors are returned bit for bit as they were given.
- Items of any of `spaces` share one index; a vector of another space or dimension is refused. `adopt` changes
  `spaces` between two changes: items written before keep their space, later ones must be of one of the new spaces.
- An item that is found damaged is not served: `get` raises StoreFailedError, pages and hits leave it out, and
  `faults` names it until it is replaced or deleted.
- `replace_vectors` never overwrites a newer version of an item than the one that its caller has read.
- Images are optional: a store that keeps none ignores `Item.image`, and its `image_digest` and `image` are None.
- A store that can only search approximately refuses every `search` with ExactSearchUnavailableError.
- All methods block, may be called from any thread and raise only StoreError; after `close`, StoreClosedError.
- Methods that change or look up several items refuse more than MAX_ITEMS of them; an empty call is no error.

A store that other processes may change as well differs in this:
- A read may see a change that has not returned yet, and a later read may not.
- "Every later call sees it" is said of calls in this process. What another process wrote is seen soon: by searches
  and look-ups within a second or so, in `composition` and in the number of all items within half a minute.
  Opening the store waits until everything that was written before is seen.
- Outcomes, the answers of `delete` and what `created` keeps are as of a look just before the change; two processes
  that insert one id at the same moment may both be told CREATED, and `composition` is wrong by it until it is
  counted anew. `delete_matching` may remove an item that was replaced while the call ran.
- `patch_metadata` and `replace_vectors` undo a change of the item that another process makes between their look at
  it and their change.
- A change of many items is made in parts; where one of them fails, OutcomeUnknownError tells.
- `spaces` are those of this process: others may have adopted a successor already, whose items are found here, too.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sfsc_service.store.errors import InvalidInputError
from sfsc_service.store.fault import StoreFault

__all__ = [
    "MAX_ID_LENGTH",
    "MAX_IMAGE_BYTES",
    "MAX_ITEMS",
    "MAX_METADATA_BYTES",
    "MAX_METADATA_DEPTH",
    "MAX_PAGE",
    "MAX_QUERIES",
    "MAX_TOTAL_HITS",
    "NO_METADATA",
    "SCORE_TOLERANCE",
    "UNIT_TOLERANCE",
    "ApproximateStatus",
    "EncodedImage",
    "Filter",
    "Float32",
    "Hit",
    "Item",
    "MetadataJson",
    "Outcome",
    "Page",
    "Store",
    "StoreSizes",
    "StoreWork",
    "StoredImage",
    "StoredItem",
    "VectorChange",
    "WidthReason",
]

MAX_ITEMS = 10_000
MAX_PAGE = 1_000
MAX_QUERIES = 1_024
MAX_TOTAL_HITS = 1_000_000
MAX_ID_LENGTH = 256
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 16
MAX_IMAGE_BYTES = 32 * 1024 * 1024
UNIT_TOLERANCE = 1e-3
SCORE_TOLERANCE = 1e-5

Float32 = npt.NDArray[np.float32]
Filter = Mapping[str, Any]
WidthReason = Literal["requested", "budget", "load", "vector"]
"""Why an item has its width: as engine.policy.Reason, or "vector" where the caller computed the vector."""


class Outcome(StrEnum):
    CREATED = "created"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An encoded image as it was received, 1 .. MAX_IMAGE_BYTES bytes; `media_type` such as image/jpeg."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class MetadataJson:
    """Metadata that `validation.metadata_json` has checked, as JSON text: objects take up to 25 times as much."""

    text: str


NO_METADATA = MetadataJson("{}")


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """What a caller puts in.

    `vector`: float32 [D], length 1 ± UNIT_TOLERANCE. `width`: as the manifest writes it ("0.25").
    `metadata`: a JSON object of at most MAX_METADATA_BYTES, with integers of 64 bits and finite numbers.
    """

    id: str
    space: str
    width: str
    vector: Float32
    metadata: dict[str, Any] | MetadataJson
    image: EncodedImage | None = None
    reason: WidthReason = "vector"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The image of one version of an item. `digest`: sha256 of `data`, hexadecimal."""

    data: bytes
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class StoredItem:
    """One item as it is kept.

    `vector`: float32 [D], read-only. `image_digest`: None where it has no image. `created`: when its id was first
    inserted, UTC; a replacement keeps it.
    """

    id: str
    space: str
    width: str
    vector: Float32
    metadata: dict[str, Any]
    image_digest: str | None
    reason: WidthReason
    created: datetime

    def equals(self, other: "StoredItem") -> bool:
        """Whether all fields are equal, and the vectors bit by bit."""
        return self._scalars() == other._scalars() and self.vector.tobytes() == other.vector.tobytes()

    def _scalars(self) -> tuple[object, ...]:
        return self.id, self.space, self.width, self.metadata, self.image_digest, self.reason, self.created


@dataclass(frozen=True, slots=True, eq=False)
class VectorChange:
    """Another vector, with its space and width, for `item` as it was read; all else of the item stays."""

    item: StoredItem
    space: str
    width: str
    vector: Float32


class Hit(NamedTuple):
    """One answer of a search; a tuple, because a search may return a whole gallery of them.

    `metadata_json` is the stored JSON text (an object), fit to be passed on unparsed; `metadata` parses it.
    `vector`: float32 [D], read-only, where the search was asked for vectors, else None.
    """

    id: str
    space: str
    width: str
    metadata_json: str
    image_digest: str | None
    score: float
    vector: Float32 | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.metadata_json)
        return parsed


class ApproximateStatus(NamedTuple):
    """How approximate searches are made.

    `rows`: vectors that they can find, 0 while they are still made exactly. `recall`: the share of the ten nearest
    vectors that they find, measured with vectors of the gallery; None where it was not measured.
    """

    kind: str
    rows: int
    recall: float | None


@dataclass(frozen=True, slots=True)
class Page:
    """`cursor` is None on the last page; otherwise `page` takes it to continue after this one."""

    items: list[StoredItem]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class StoreSizes:
    """What a store takes on disk and in memory.

    `log_bytes`: of the database's log. `live_rows`, `dead_rows`: vectors in use, and those that were deleted or
    replaced and not given back yet. `vector_files`: the files that hold them. `free_bytes`: left on the disk;
    infinity where items are kept without a bound.
    `columns_failed`: whether filters ask the database, which takes longer, because its columns in memory failed.
    """

    log_bytes: int
    live_rows: int
    dead_rows: int
    vector_files: int
    free_bytes: float
    columns_failed: bool = False


StoreWork = Literal["commit", "merge"]
"""What a store measures the time of: writing a group of changes, and writing vectors anew in the background."""


class Store(Protocol):
    @property
    def dimension(self) -> int: ...

    @property
    def spaces(self) -> frozenset[str]:
        """The space of new vectors and those declared compatible with it."""

    @property
    def alive(self) -> bool:
        """Whether changes can still be made; never waits."""

    @property
    def faults(self) -> list[str]:
        """What is damaged and not served, in sentences; never waits."""

    def fault(self) -> StoreFault | None:
        """Look whether items can be read and changed; None where they can. Not to be called twice at a time."""

    def sizes(self) -> StoreSizes:
        """How much there is of everything; cheap, and waits for no change."""

    def adopt(self, space: str, dimension: int, compatible_with: Collection[str]) -> None:
        """Expect new vectors of this space from now on; the present one must be among `compatible_with`.

        Other spaces that no item has any more are forgotten. Raises OpenRefusedError, as opening would, where they
        cannot share this gallery. Where it raises, `spaces` stay as they were.
        """

    def check(self, items: Sequence[Item]) -> list[InvalidInputError | None]:
        """What `upsert` would refuse, item by item, without writing anything."""

    def upsert(self, items: Sequence[Item]) -> list[Outcome]:
        """Insert or replace. One bad item refuses the whole call; the error carries the first one's `position`."""

    def patch_metadata(self, id: str, patch: Mapping[str, Any]) -> StoredItem | None:
        """Merge a patch into an item's metadata (RFC 7396); the item as it is then, None where there is none.

        All else of the item stays as it is, and no other change of the item is lost. Raises InvalidMetadataError
        where patch or result are not what `upsert` would take.
        """

    def replace_vectors(self, changes: Sequence[VectorChange]) -> list[bool]:
        """Replace vectors; False where the item is not as it was read any more, which leaves it as it is.

        A bad vector, space or width refuses the whole call, as in `upsert`.
        """

    def delete(self, ids: Sequence[str]) -> list[bool]:
        """Remove; False where there was no such item."""

    def delete_matching(self, filter: Filter, limit: int) -> list[str]:
        """Remove at most `limit` items, 1 .. MAX_ITEMS, that meet a filter; their ids.

        An item that is replaced while the call runs stays, though the new version may meet the filter, too.
        """

    def get(self, ids: Sequence[str]) -> list[StoredItem | None]:
        """Look up; None where there is no such item."""

    def page(self, cursor: str | None = None, limit: int = 100, filter: Filter | None = None) -> Page:
        """One page of at most `limit` items, 1 .. MAX_PAGE; `filter` as in docs/api.md."""

    def search(
        self, vectors: Float32, k: int, filter: Filter | None = None, *, with_vectors: bool = False
    ) -> list[list[Hit]]:
        """The min(k, matching items) best hits for each row of `vectors`, float32 [n, D], unit length.

        n ≤ MAX_QUERIES, k ≥ 1, n × min(k, count) ≤ MAX_TOTAL_HITS.
        """

    def search_approximately(
        self, vectors: Float32, k: int, filter: Filter | None = None, *, with_vectors: bool = False
    ) -> tuple[list[list[Hit]], bool]:
        """As `search`, but a hit may be missing; also whether the search was exact after all.

        With a filter it is, unless the store refuses `search`.
        """

    @property
    def approximate(self) -> ApproximateStatus | None:
        """None where every search is exact; never waits."""

    def count(self, filter: Filter | None = None) -> int:
        """The number of items, as cheap as `composition`, or of those that meet a filter."""

    def composition(self) -> dict[str, int]:
        """The number of items per width; cheap enough to be asked at every request."""

    def image(self, id: str) -> StoredImage | None:
        """The stored image; None if there is no such item or it has none."""

    def close(self) -> None:
        """Finish the calls under way, then release everything; further calls of `close` do nothing."""
