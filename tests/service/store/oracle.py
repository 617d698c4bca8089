"""A store in a dictionary: the behaviour of protocol.py by the shortest road, to compare real ones with."""

import math
import operator
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sfsc_service.store.protocol import EncodedImage, Float32, Item, Outcome, VectorChange

MISSING = object()
COMPARE = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


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

    def patch_metadata(self, identifier: str, patch: dict[str, Any]) -> dict[str, Any] | None:
        """Of one level, which is enough here."""
        if identifier not in self.kept:
            return None
        item = self.kept[identifier].item
        both = {**item.metadata, **patch}
        metadata = {name: value for name, value in both.items() if not (name in patch and value is None)}
        self._sequence += 1
        self.kept[identifier] = Kept(replace(item, metadata=metadata), self._sequence)
        return metadata

    def replace_vectors(self, changes: list[VectorChange]) -> list[bool]:
        """As if none of the items had been changed since it was read."""
        for change in changes:
            kept = self.kept[change.item.id]
            self._sequence += 1
            item = replace(kept.item, space=change.space, width=change.width, vector=change.vector)
            self.kept[change.item.id] = Kept(item, self._sequence)
        return [True] * len(changes)

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
    """The filter language, by the shortest road; `$created` is not of an `Item`."""
    return filter is None or all(member_holds(name, operand, item) for name, operand in filter.items())


def member_holds(name: str, operand: Any, item: Item) -> bool:
    match name:
        case "$and":
            return all(matches(part, item) for part in operand)
        case "$or":
            return any(matches(part, item) for part in operand)
        case "$not":
            return not matches(operand, item)
        case "$id":
            return meets(item.id, operand)
        case "$width":
            return meets(item.width, "1.0" if operand == 1 else operand)
        case _:
            return meets(look_up(name, item.metadata), operand)


def look_up(field: str, metadata: Any) -> Any:
    found: Any = metadata
    for name in re.split(r"(?<!\\)\.", field.removeprefix("\\") if field.startswith("\\$") else field):
        name = name.replace("\\.", ".")
        if not isinstance(found, dict) or name not in found:
            return MISSING
        found = found[name]
    return found


def meets(found: Any, operand: Any) -> bool:
    if not isinstance(operand, dict):
        return equal(found, operand)
    return all(operator_holds(found, name, value) for name, value in operand.items())


def operator_holds(found: Any, name: str, value: Any) -> bool:
    match name:
        case "$eq":
            return equal(found, value)
        case "$ne":
            return not equal(found, value)
        case "$in":
            return any(equal(found, one) for one in value)
        case "$nin":
            return not any(equal(found, one) for one in value)
        case "$exists":
            return (found is not MISSING) is value
        case "$contains":
            return isinstance(found, list) and any(equal(one, value) for one in found)
        case "$not":
            return not meets(found, value)
        case _:
            return comparable(found, value) and bool(COMPARE[name](found, value))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def comparable(found: Any, value: Any) -> bool:
    return (is_number(found) and is_number(value)) or (isinstance(found, str) and isinstance(value, str))


def equal(found: Any, wanted: Any) -> bool:
    if is_number(found) and is_number(wanted):
        return bool(found == wanted)
    return not isinstance(found, list | dict) and type(found) is type(wanted) and bool(found == wanted)
