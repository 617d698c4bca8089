"""The gallery that benchmarks/gallery_peers.py gives every store: vectors, and four fields of metadata.

In a folder: `vectors.npy`, float32 [n, D] of unit length, and `fields.npy`, int32 [4, n].
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["SHARES", "Gallery", "K", "Value", "VectorStore", "field_of", "read", "value_of", "write"]

K = 10
SHARES = {"50": 2, "5": 20, "0.5": 200, "0.05": 2_000}
"""Per cent of the items that a filter keeps, and one of how many values of its field that is."""
TEXTS = ("5", "0.05")
"""The fields of these shares hold texts, the others integers."""

Float32 = npt.NDArray[np.float32]
Value = int | str


class Gallery:
    """`vectors`: float32 [n, D], mapped. `fields`: int32 [4, n], in the order of SHARES."""

    def __init__(self, vectors: Float32, fields: npt.NDArray[np.int32]) -> None:
        self.vectors, self.fields = vectors, fields

    def __len__(self) -> int:
        return len(self.vectors)

    def metadata(self, number: int) -> dict[str, Value]:
        """Of one item."""
        return {
            field_of(share): value_of(share, int(values[number]))
            for share, values in zip(SHARES, self.fields, strict=True)
        }

    def kept(self, share: str) -> npt.NDArray[np.bool_]:
        """Which items have the value 0 in the field of a share."""
        chosen: npt.NDArray[np.bool_] = self.fields[list(SHARES).index(share)] == 0
        return chosen


class VectorStore(Protocol):
    """What is compared. Opening takes the folder that `fill` has written."""

    @staticmethod
    def fill(folder: Path, gallery: Gallery) -> None:
        """Store every item durably, with what the store recommends for exact and filtered searches."""

    def __init__(self, folder: Path) -> None: ...

    def wait(self) -> None:
        """Until what a start does in the background is done."""

    def search(self, query: Float32, share: str | None) -> list[int]:
        """The numbers of the K best items, best first; `share`: of those that its filter keeps.

        Ids and metadata of the hits have been read, where the store keeps them.
        """

    def notes(self) -> dict[str, Any]:
        """What else is worth to be known of the open store."""

    def close(self) -> None: ...


def field_of(share: str) -> str:
    """The name of the field by which such a share is kept."""
    return f"one_of_{SHARES[share]}"


def value_of(share: str, number: int) -> Value:
    """What stands in the field of a share for a number."""
    return f"value {number}" if share in TEXTS else number


def write(folder: Path, vectors: Float32, seed: int) -> None:
    """Write the vectors, and fields drawn at random."""
    rng = np.random.default_rng(seed)
    fields = [rng.integers(count, size=len(vectors), dtype=np.int32) for count in SHARES.values()]
    folder.mkdir(parents=True)
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "fields.npy", np.stack(fields))


def read(folder: Path) -> Gallery:
    """A gallery whose vectors are mapped."""
    return Gallery(np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "fields.npy"))
