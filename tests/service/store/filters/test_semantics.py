"""What filters mean: the SQL condition and the columns judge as a plain evaluation in Python does."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfsc_service.store.embedded.changes import Versions
from sfsc_service.store.embedded.columns.table import ColumnTable, read_fields
from sfsc_service.store.filters.language import parse
from sfsc_service.store.filters.sql import add_functions, to_sql
from sfsc_service.store.filters.terms import And, ItemField, Not, Or, Term
from sfsc_service.store.protocol import Item
from tests.service.store.filters.cases import (
    CASES,
    FIELDS,
    FIELDS_METADATA,
    METADATA,
    MISSING,
    filters,
    item_of,
    there,
)
from tests.service.store.oracle import matches

CREATED = 1_700_000_000_000_000


def by_sql(items: list[Item], term: Term) -> list[int]:
    with closing(sqlite3.connect(":memory:")) as database:
        add_functions(database)
        database.execute("CREATE TABLE items (n INTEGER, id TEXT, width TEXT, created INTEGER, metadata TEXT)")
        rows = [
            (n, item.id, item.width, CREATED + n, json.dumps(item.metadata, ensure_ascii=False))
            for n, item in enumerate(items)
        ]
        database.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows)
        condition = to_sql(term)
        found = database.execute(f"SELECT n FROM items WHERE {condition.sql} ORDER BY n", condition.values)
        return [n for (n,) in found]


def by_columns(items: list[Item], term: Term) -> list[int] | None:
    """Half of the items are appended at once and half one by one, with one in between that is removed again."""
    table = ColumnTable(2**30)
    half = len(items) // 2
    for start, end in ((0, half), *((n, n + 1) for n in range(half, len(items)))):
        table.append(read_fields(versions(items, range(start, end), 0)))
        table.append(read_fields(versions(items[start:end], range(1), 2 * end - 1)))
        table.remove(np.array([2 * end - 1]))
    allowed = table.select(term)
    return None if allowed is None else [int(sequence) // 2 for sequence in allowed.versions]


def versions(items: list[Item], numbers: range, offset: int) -> Versions:
    chosen = [(offset + 2 * n, items[n], n) for n in numbers if n < len(items)]
    return Versions(
        np.array([sequence for sequence, _, _ in chosen], np.int64),
        [item.width for _, item, _ in chosen],
        [CREATED + n for _, _, n in chosen],
        [json.dumps(item.metadata, ensure_ascii=False) for _, item, _ in chosen],
    )


def names_ids(term: Term) -> bool:
    match term:
        case And() | Or():
            return any(map(names_ids, term.terms))
        case Not():
            return names_ids(term.term)
        case _:
            return term.field == ItemField("id")


@pytest.mark.parametrize(("stored", "condition", "holds"), CASES)
def test_the_table_of_values(stored: Any, condition: Any, holds: bool) -> None:
    items = [item_of({"other": 1}), item_of({} if stored is MISSING else {"a": stored}, 1)]
    document = {"a": condition}
    found = [1] if holds else []
    assert matches(document, items[1]) is holds
    assert [n for n in by_sql(items, parse(document)) if n] == found
    assert [n for n in by_columns(items, parse(document)) or [] if n] == found


@pytest.mark.parametrize(("field", "there"), FIELDS)
def test_fields(field: str, there: bool) -> None:
    document = {field: {"$exists": True}}
    assert by_sql([item_of(FIELDS_METADATA)], parse(document)) == ([0] if there else [])
    assert by_columns([item_of(FIELDS_METADATA)], parse(document)) == ([0] if there else [])


def test_reserved_fields_are_the_item_s_own() -> None:
    items = [item_of({"id": "x", "width": "9", "$width": "9"}, n) for n in range(3)]
    documents = [
        ({"$id": "i1"}, [1]),
        ({"$id": {"$gte": "i1"}}, [1, 2]),
        ({"$width": 0.5}, [1]),
        ({"$width": {"$gt": "0.25"}}, [1, 2]),
        ({"$created": {"$lte": "2023-11-14T22:13:20.000001Z"}}, [0, 1]),
    ]
    for document, found in documents:
        assert by_sql(items, parse(document)) == found
        assert by_columns(items, parse(document)) == (None if "$id" in document else found)


@settings(max_examples=150, deadline=None)
@given(st.lists(METADATA, min_size=1, max_size=6), st.data())
def test_any_filter_means_the_same_in_sql_in_columns_and_in_python(
    metadata: list[dict[str, Any]], data: st.DataObject
) -> None:
    items = [item_of(one, n) for n, one in enumerate(metadata)]
    document = data.draw(filters([pair for one in metadata for pair in there(one)]))
    term = parse(document)
    expected = [n for n, item in enumerate(items) if matches(document, item)]
    assert by_sql(items, term) == expected
    assert by_columns(items, term) == (None if names_ids(term) else expected)
