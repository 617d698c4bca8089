"""Which of the items that are nearest to a query are the hits of a search."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from sfsc_service.store.protocol import Hit

__all__ = ["Grouping", "HitSelection", "cosine"]


def cosine(score: float) -> float:
    """A score within -1 .. 1, which float32 misses by 1e-7."""
    return max(-1.0, min(score, 1.0))


@dataclass(frozen=True, slots=True)
class Grouping:
    """At most `size` hits for each value of a field of the metadata; `name`: of its `path`, as in filters."""

    name: str
    path: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class HitSelection:
    """The `k` best hits after the first `offset`, of those that score at least `min_score`.

    `exclude`: ids of items that are no hits. `vectors`: whether hits have their vectors. `grouping`: `k` and
    `offset` count groups, see grouped_search.py.
    """

    k: int
    offset: int = 0
    min_score: float = -1.0
    exclude: frozenset[str] = frozenset()
    vectors: bool = False
    grouping: Grouping | None = None

    @property
    def fetched(self) -> int:
        """How many of the nearest items have all hits among them."""
        return self.offset + self.k + len(self.exclude)

    def choose(self, nearest: list[Hit]) -> list[Hit]:
        """The hits among the `fetched` nearest items, best first."""
        return list(islice(self.admitted(nearest), self.offset, self.offset + self.k))

    def admitted(self, nearest: Iterable[Hit]) -> Iterator[Hit]:
        """Those that score enough and are not excluded."""
        return (hit for hit in nearest if cosine(hit.score) >= self.min_score and hit.id not in self.exclude)
