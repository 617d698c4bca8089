"""The seam between the gallery and whatever keeps it.

Invariants, for every implementation:
- A change that has returned is durable and searchable. A change that raised has not happened at all; one cut
  short by a crash has happened wholly or not at all, call by call.
- Every change of an item (insertion, replacement, deletion) takes a new sequence number, above all before.
- `upsert` of one id twice in a call leaves the last one; outcomes are given in the order of the items.
- `search` is exact. Score = inner product of the stored and the query vector, summed in float64, rounded to
  float32, so that it depends on those two alone. Hits descend by score; equal scores ascend by sequence.
- A hit's score, metadata, width and image belong to one version of the item, even while others change it.
- `page` ascends by id, code point by code point. An item that is there throughout is listed exactly once,
  whatever else is written between two pages.
- Vectors come back bit for bit as they went in.
- Items of any of `spaces` share one index; a vector of another space or dimension is refused. `adopt` changes
  `spaces` between two changes: what is written before keeps its space, what comes after is held to the new ones.
- All methods block, may be called from any thread and raise only StoreError; after `close` StoreClosedError.
- Methods that change or look up several items refuse more than MAX_ITEMS of them; an empty call is no error.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sfsc_service.store.errors import InvalidInputError

__all__ = [
    "MAX_ID_LENGTH",
    "MAX_IMAGE_BYTES",
    "MAX_ITEMS",
    "MAX_METADATA_BYTES",
    "MAX_METADATA_DEPTH",
    "MAX_PAGE",
    "MAX_QUERIES",
    "MAX_TOTAL_HITS",
    "UNIT_TOLERANCE",
    "EncodedImage",
    "Filter",
    "Float32",
    "Hit",
    "Item",
    "Outcome",
    "Page",
    "Store",
    "StoredItem",
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

Float32 = npt.NDArray[np.float32]
Filter = Mapping[str, Any]


class Outcome(StrEnum):
    CREATED = "created"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An encoded image as it came, 1 .. MAX_IMAGE_BYTES bytes; `media_type` such as image/jpeg."""

    data: bytes
    media_type: str


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
    metadata: dict[str, Any]
    image: EncodedImage | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StoredItem:
    """One item as it is kept. `vector`: float32 [D], read-only. `image_digest`: sha256, hexadecimal."""

    id: str
    sequence: int
    space: str
    width: str
    vector: Float32
    metadata: dict[str, Any]
    image_digest: str | None
    image_media_type: str | None


class Hit(NamedTuple):
    """One answer of a search; a tuple, because a search may return a whole gallery of them.

    `metadata_json` is the stored JSON text (an object), fit to be passed on unparsed; `metadata` parses it.
    """

    id: str
    sequence: int
    space: str
    width: str
    metadata_json: str
    image_digest: str | None
    image_media_type: str | None
    score: float

    @property
    def metadata(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.metadata_json)
        return parsed


@dataclass(frozen=True, slots=True)
class Page:
    """`cursor` is None on the last page; else it is what `page` takes to go on."""

    records: list[StoredItem]
    cursor: str | None


class Store(Protocol):
    @property
    def dimension(self) -> int: ...

    @property
    def spaces(self) -> frozenset[str]:
        """The space of new vectors and those declared compatible with it."""

    @property
    def alive(self) -> bool:
        """Whether changes can still be worked on; costs nothing and never waits."""

    def adopt(self, space: str, dimension: int, compatible_with: Collection[str]) -> None:
        """From now on new vectors are of this space; that of new vectors so far must be among the compatible ones.

        Raises OpenRefusedError, as opening would, where they cannot share this gallery; nothing has changed then.
        """

    def check(self, items: Sequence[Item]) -> list[InvalidInputError | None]:
        """What `upsert` would refuse, item by item, without writing anything."""

    def upsert(self, items: Sequence[Item]) -> list[Outcome]:
        """Insert or replace, all or nothing; the first refused item's error carries its `position`."""

    def delete(self, ids: Sequence[str]) -> list[bool]:
        """Remove; False where there was no such item."""

    def get(self, ids: Sequence[str]) -> list[StoredItem | None]:
        """Look up; None where there is no such item."""

    def page(self, cursor: str | None = None, limit: int = 100, filter: Filter | None = None) -> Page:
        """One page of at most `limit` records, 1 .. MAX_PAGE; `filter` as in store/filter.py."""

    def search(self, vectors: Float32, k: int, filter: Filter | None = None) -> list[list[Hit]]:
        """The min(k, matching items) best hits for each row of `vectors`, float32 [n, D], unit length.

        n ≤ MAX_QUERIES, k ≥ 1, n × min(k, count) ≤ MAX_TOTAL_HITS.
        """

    def count(self) -> int:
        """The number of items."""

    def composition(self) -> dict[str, int]:
        """The number of items per width; costs next to nothing."""

    def image(self, id: str) -> EncodedImage | None:
        """The stored image; None if there is no such item or it has none."""

    def close(self) -> None:
        """Finish what was accepted, then release everything; further calls do nothing."""
