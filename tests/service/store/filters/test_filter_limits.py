"""The filter language at its limits, and the SQL condition of each filter, asked of SQLite itself."""

import json
import sqlite3
from typing import Any

import pytest

from sfsc_service.store.errors import InvalidFilterError
from sfsc_service.store.filters.language import MAX_DEPTH, parse
from sfsc_service.store.filters.operators import MAX_FIELD_LENGTH, MAX_TERMS, MAX_VALUE_LENGTH


def one(value: Any, field: str = "a") -> dict[str, Any]:
    return {"match": {field: value}}


def nested(depth: int) -> dict[str, Any]:
    return {"and": [nested(depth - 1)]} if depth > 1 else one(1)


def holds(document: dict[str, Any], metadata: dict[str, Any], id: str = "x", width: str = "1.0") -> bool:
    """Whether SQLite finds an item by the condition that the filter becomes."""
    condition = parse(document).sql()
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE items (id TEXT, width TEXT, metadata TEXT)")
        database.execute(
            "INSERT INTO items VALUES (?, ?, ?)", (id, width, json.dumps(metadata, ensure_ascii=False))
        )
        query = f"SELECT count(*) FROM items WHERE {condition.sql}"
        return bool(database.execute(query, condition.values).fetchone()[0])


def refused(document: Any) -> str:
    with pytest.raises(InvalidFilterError) as caught:
        parse(document)
    return str(caught.value)


def test_limits_are_those_of_the_documentation() -> None:
    assert (MAX_DEPTH, MAX_TERMS, MAX_FIELD_LENGTH, MAX_VALUE_LENGTH) == (8, 64, 256, 16 * 1024)


def test_a_filter_is_nested_up_to_the_limit_and_no_deeper() -> None:
    assert parse(nested(MAX_DEPTH)).size == 1
    assert "must be nested at most 8 deep; found more at filter.and[0].and[0]" in refused(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize("count", [1, MAX_TERMS])
def test_up_to_64_fields_and_64_filters_are_taken(count: int) -> None:
    assert parse({"match": {f"f{n}": n for n in range(count)}}).size == count
    assert parse({"and": [one(n) for n in range(count)]}).size == count


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"match": {f"f{n}": n for n in range(65)}}, "filter.match: must be an object of 1 .. 64 fields"),
        ({"and": [one(1)] * 65}, "filter.and: must be a list of 1 .. 64 filters"),
        ({"and": [{"match": {"a": 1, "b": 2}}] * 32 + [one(3)]}, "filter: must hold at most 64 terms; found 65"),
        ({"and": "ab"}, "filter.and: must be a list of 1 .. 64 filters"),
        ({"match": 1.5}, "filter.match: must be an object of 1 .. 64 fields"),
        ({"and": [one(1), "match"]}, "filter.and[1]: must be an object with exactly one operator"),
        ({"x" * 41: 1}, f"found '{'x' * 40}'"),
        ({"match": {"\n" + "b" * 90: 1}}, "found '\\n" + "b" * 79 + "'"),
    ],
)
def test_what_is_beyond_a_limit_is_told_with_its_place_and_the_rule(document: Any, message: str) -> None:
    found = refused(document)
    assert message in found
    assert len(found) < 300


@pytest.mark.parametrize("field", ["a", "a" * 256, "a.b", "ä", "a b", "$", "0", "id.x", "x.id"])
def test_any_name_of_1_to_256_characters_is_a_field(field: str) -> None:
    inside: Any = 1
    for name in reversed(field.split(".")):
        inside = {name: inside}
    assert holds(one(1, field), inside)
    assert not holds(one(2, field), inside)


@pytest.mark.parametrize("field", [".", "a.", ".a", 'a"', "a\\", "a\x00", "a\x1f", "a\ud800", "a" * 257])
def test_a_field_that_no_json_path_can_name_is_refused(field: str) -> None:
    assert "a field must" in refused(one(1, field))


@pytest.mark.parametrize("field", ["a\x20", "a\x7f", "a\ud7ff", "a\ue000", "a!", "a[", "a]"])
def test_characters_beside_the_refused_ones_are_taken(field: str) -> None:
    assert holds(one(1, field), {field: 1})


@pytest.mark.parametrize(
    "value", [2**63 - 1, -(2**63), 0, 1.5, -1e308, 5e-324, "", "x" * 16384, "\ud7ff\ue000", True, False, None]
)
def test_a_value_at_its_limit_is_taken_and_found(value: Any) -> None:
    assert holds(one(value), {"a": value})
    assert not holds(one(value), {"b": value})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**63, "(integers: 64 bits)"),
        (-(2**63) - 1, "(integers: 64 bits)"),
        (float("-inf"), "a finite number"),
        ("x" * 16385, "must be at most 16384 characters of Unicode text"),
        ("\udfff", "Unicode text"),
        ([], "must be a string, a finite number"),
        ({}, "must be a string, a finite number"),
        (b"1", "must be a string, a finite number"),
    ],
)
def test_a_value_beyond_its_limit_is_refused_at_its_place(value: Any, message: str) -> None:
    assert refused(one(value)).startswith("filter.match.a: ")
    assert message in refused({"and": [one(1), one(value)]})
    assert refused({"and": [one(1), one(value)]}).startswith("filter.and[1].match.a: ")


@pytest.mark.parametrize(
    ("wanted", "stored", "equal"),
    [
        (1, "1", True),
        (1, "1.0", True),
        (1.0, "1", True),
        (2, "2.5", False),
        (2.5, "2.5", True),
        (2.5, "2", False),
        (0, "-0.0", True),
        (-0.0, "0", True),
        (0.0, "0.0", True),
        (0, "false", False),
        (1, "true", False),
        (True, "true", True),
        (True, "1", False),
        (False, "0", False),
        (None, "null", True),
        (None, '"null"', False),
        ("1", '"1"', True),
        ("1", "1", False),
        ("ä", '"ä"', True),
        (2**53 + 1, "9007199254740993", True),
        (2**53 + 1, "9007199254740992", False),
        (2**53 + 1, "9007199254740992.0", False),
        (2**53 + 3, "9007199254740996.0", False),
        (2**53, "9007199254740992.0", True),
        (float(2**53), "9007199254740992", True),
        (1e16, "10000000000000000", True),
        (1e16, "1e+16", True),
        (-7, "-7.0", True),
        (7, "-7", False),
    ],
)
def test_equality_is_of_json_values(wanted: Any, stored: str, equal: bool) -> None:
    condition = parse(one(wanted)).sql()
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE items (metadata TEXT)")
        database.execute("INSERT INTO items VALUES (?)", (f'{{"a":{stored}}}',))
        query = f"SELECT count(*) FROM items WHERE {condition.sql}"
        assert database.execute(query, condition.values).fetchone() == (int(equal),)


def test_id_and_width_are_the_item_s_own_and_only_at_the_root() -> None:
    metadata = {"id": "other", "width": "other", "in": {"id": "deep"}}
    assert holds(one("x", "id"), metadata)
    assert not holds(one("other", "id"), metadata)
    assert holds(one("1.0", "width"), metadata)
    assert not holds(one("other", "width"), metadata)
    assert holds(one("deep", "in.id"), metadata)
    assert not holds(one("deep", "id"), metadata)


@pytest.mark.parametrize("field", ["id", "width"])
@pytest.mark.parametrize("value", [1, 1.0, True, None])
def test_a_reserved_name_is_compared_with_text_only(field: str, value: Any) -> None:
    assert refused(one(value, field)).startswith(f"filter.match.{field}: must be a string")


def test_all_parts_of_a_filter_must_hold() -> None:
    document = {"and": [{"match": {"a": 1, "b": 2}}, {"and": [one("x", "id"), one(3, "c")]}]}
    assert parse(document).size == 4
    assert holds(document, {"a": 1, "b": 2, "c": 3})
    for wrong in ({"a": 0}, {"b": 0}, {"c": 0}):
        assert not holds(document, {"a": 1, "b": 2, "c": 3} | wrong)
    assert not holds(document, {"a": 1, "b": 2, "c": 3}, id="y")
