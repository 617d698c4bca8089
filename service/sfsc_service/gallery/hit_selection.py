"""Which of the items that are nearest to a query are the hits of a search."""

from dataclasses import dataclass
from itertools import islice

from sfsc_service.store.protocol import Hit

__all__ = ["HitSelection", "cosine"]


def cosine(score: float) -> float:
    """A score within -1 .. 1, which float32 misses by 1e-7."""
    return max(-1.0, min(score, 1.0))


@dataclass(frozen=True, slots=True)
class HitSelection:
    """The `k` best hits after the first `offset`, of those that score at least `min_score`.

    `exclude`: ids of items that are no hits. `vectors`: whether hits have their vectors.
    """

    k: int
    offset: int = 0
    min_score: float = -1.0
    exclude: frozenset[str] = frozenset()
    vectors: bool = False

    @property
    def fetched(self) -> int:
        """How many of the nearest items have all hits among them."""
        return self.offset + self.k + len(self.exclude)

    def choose(self, nearest: list[Hit]) -> list[Hit]:
        """The hits among the `fetched` nearest items, best first."""
        kept = (hit for hit in nearest if cosine(hit.score) >= self.min_score and hit.id not in self.exclude)
        return list(islice(kept, self.offset, self.offset + self.k))
