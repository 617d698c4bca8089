"""A store in a dictionary: the behaviour of protocol.py by the shortest road, to compare real ones with."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfsc_service.store.protocol import EncodedImage, Float32, Item, Outcome

MISSING = object()


@dataclass
class Kept:
    item: Item
    sequence: int


class Oracle:
    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}
        self._sequence = 0

    def upsert(self, items: list[Item]) -> list[Outcome]:
        outcomes = []
        for item in items:
            outcomes.append(Outcome.REPLACED if item.id in self.kept else Outcome.CREATED)
            self._sequence += 1
            self.kept[item.id] = Kept(item, self._sequence)
        return outcomes

    def delete(self, ids: list[str]) -> list[bool]:
        return [self.kept.pop(identifier, None) is not None for identifier in ids]

    def ids(self, filter: Any = None) -> list[str]:
        return sorted(i for i, kept in self.kept.items() if matches(filter, kept.item))

    def search(self, vector: Float32, k: int, filter: Any = None) -> list[tuple[str, float]]:
        scored = [
            (-score(kept.item.vector, vector), kept.sequence, identifier)
            for identifier, kept in self.kept.items()
            if matches(filter, kept.item)
        ]
        return [(identifier, -negative) for negative, _, identifier in sorted(scored)[:k]]

    def composition(self) -> dict[str, int]:
        return dict(Counter(kept.item.width for kept in self.kept.values()))

    def image(self, identifier: str) -> EncodedImage | None:
        return self.kept[identifier].item.image if identifier in self.kept else None


def score(stored: Float32, query: Float32) -> float:
    products = stored.astype(np.float64) * query.astype(np.float64)
    return float(np.float32(math.fsum(products.tolist())))


def matches(filter: Any, item: Item) -> bool:
    if filter is None:
        return True
    if "and" in filter:
        return all(matches(term, item) for term in filter["and"])
    return all(equal(look_up(field, item), value) for field, value in filter["match"].items())


def look_up(field: str, item: Item) -> Any:
    if field in ("id", "width"):
        return getattr(item, field)
    found: Any = item.metadata
    for name in field.split("."):
        if not isinstance(found, dict) or name not in found:
            return MISSING
        found = found[name]
    return found


def equal(found: Any, wanted: Any) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (found, wanted)]
    if all(numbers):
        return bool(found == wanted)
    return type(found) is type(wanted) and found == wanted
