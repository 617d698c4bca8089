"""A count that was made while this process changed something is not taken for the truth."""

from collections.abc import Callable
from typing import Any

import pytest

from sfsc_service.store.milvus.width_counts import WidthCounts


class CountedCollection:
    """As many items of width 0.5 as `items` says; `meanwhile` is called while they are counted."""

    def __init__(self) -> None:
        self.items = 3
        self.meanwhile: Callable[[], Any] = lambda: None

    def count(self, _expression: str) -> int:
        counted = self.items
        self.meanwhile()
        return counted

    def first_rows(self, expression: str, _limit: int, _fields: list[str]) -> list[dict[str, str]]:
        return [{"width": "0.5"}] if self.items and "0.5" not in expression else []


@pytest.fixture
def collection() -> CountedCollection:
    return CountedCollection()


def add_one(counts: WidthCounts, collection: CountedCollection) -> None:
    with counts.changing():
        collection.items += 1
        counts.change(["0.5"], [])


@pytest.mark.parametrize("when", ["before it is told", "while it is counted", "never"])
def test_a_change_is_counted_once(collection: CountedCollection, when: str) -> None:
    counts = WidthCounts(collection)  # type: ignore[arg-type]
    if when == "before it is told":
        with counts.changing():
            collection.items += 1
            counts.refresh()
            counts.change(["0.5"], [])
    elif when == "while it is counted":
        collection.meanwhile = lambda: add_one(counts, collection)
        counts.refresh()
    else:  # by another process
        collection.items += 1
        counts.refresh()
    assert counts.now() == {"0.5": 4}


def test_an_old_count_is_replaced_in_any_case(
    collection: CountedCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfsc_service.store.milvus.width_counts._OLD_S", -1.0)
    counts = WidthCounts(collection)  # type: ignore[arg-type]
    collection.items = 10
    with counts.changing():
        counts.refresh()
    assert counts.now() == {"0.5": 10}
