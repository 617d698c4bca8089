"""The filter language, by itself and through every store."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfsc_service.store.errors import InvalidFilterError
from sfsc_service.store.filters.language import MAX_DEPTH, parse
from sfsc_service.store.filters.operators import MAX_TERMS, And, Match
from sfsc_service.store.protocol import Store
from tests.service.store.agreement import walk
from tests.service.store.conftest import Opener
from tests.service.store.making import make_item, unit_vectors
from tests.service.store.oracle import matches


def deep(depth: int) -> dict[str, Any]:
    return {"and": [deep(depth - 1)]} if depth > 1 else {"match": {"a": 1}}


REFUSED: dict[str, tuple[Any, str]] = {
    "no object": ([], "filter: must be an object with exactly one operator; found a list of 0"),
    "null": (None, "found null"),
    "empty": ({}, "found an object of 0"),
    "two operators": ({"match": {"a": 1}, "and": []}, "found an object of 2"),
    "unknown operator": ({"like": {}}, "found 'like'"),
    "match without field": (
        {"match": {}},
        "filter.match: must be an object of 1 .. 64 fields; found an object of 0",
    ),
    "match of a list": ({"match": [1]}, "filter.match"),
    "and of nothing": ({"and": []}, "filter.and: must be a list of 1 .. 64 filters; found a list of 0"),
    "and of an object": ({"and": {}}, "filter.and"),
    "bad term inside": ({"and": [{"match": {"a": 1}}, 5]}, r"filter.and\[1\]: .*found 5"),
    "value is a list": ({"match": {"a": [1]}}, "filter.match.a: must be a string"),
    "value is an object": ({"match": {"a": {"gte": 1}}}, "filter.match.a: must be a string"),
    "value NaN": ({"match": {"a": float("nan")}}, "found nan"),
    "value infinite": ({"match": {"a": float("inf")}}, "found inf"),
    "value of 65 bits": ({"match": {"a": 2**64}}, "found 1844"),
    "value with surrogate": ({"match": {"a": "\ud800"}}, "Unicode"),
    "value too long": ({"match": {"a": "x" * 20_000}}, "16384"),
    "id not a string": ({"match": {"id": 1}}, "filter.match.id: must be a string; found 1"),
    "width not a string": ({"match": {"width": 0.25}}, "filter.match.width: must be a string"),
    "field empty": ({"match": {"": 1}}, "1 .. 256 characters"),
    "field too long": ({"match": {"a" * 257: 1}}, "1 .. 256 characters"),
    "field with empty name": ({"match": {"a..b": 1}}, "names joined by dots"),
    "field with quote": ({"match": {'a"b': 1}}, "without quotes"),
    "field with backslash": ({"match": {"a\\b": 1}}, "without quotes"),
    "field not a string": ({"match": {1: 1}}, "1 .. 256 characters"),
    "too deep": (deep(MAX_DEPTH + 1), f"nested at most {MAX_DEPTH} deep"),
    "much too deep": (deep(900), f"nested at most {MAX_DEPTH} deep"),
    "too many terms": ({"and": [{"match": {"a": 1, "b": 2}}] * 33}, f"at most {MAX_TERMS} terms; found 66"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_of_the_language_is_refused_with_place_and_rule(name: str) -> None:
    document, message = REFUSED[name]
    with pytest.raises(InvalidFilterError, match=message):
        parse(document)


@pytest.mark.parametrize("operator", ["any", "range", "exists", "or", "not"])
def test_an_operator_that_is_not_supported_is_named_with_those_that_are(operator: str) -> None:
    message = rf"filter\.and\[0\]: operator must be one of match, and; found '{operator}', which is not supported"
    with pytest.raises(InvalidFilterError, match=message):
        parse({"and": [{operator: {"a": 1}}]})


def test_the_tree() -> None:
    assert parse({"match": {"a.b": None}}) == Match(("a", "b"), None)
    assert parse({"match": {"width": "1.0", "a": 1}}) == And((Match(("width",), "1.0"), Match(("a",), 1)))
    assert parse(deep(MAX_DEPTH))


PAIRS: list[tuple[str, Any, Any, bool]] = [
    ("true is not 1", True, 1, False),
    ("1 is not true", 1, True, False),
    ("false is not 0", False, 0, False),
    ("true is true", True, True, True),
    ("1 is 1.0", 1, 1.0, True),
    ("1.0 is 1", 1.0, 1, True),
    ("minus zero is zero", -0.0, 0, True),
    ("zero is minus zero", 0, -0.0, True),
    ("text is not a number", "1", 1, False),
    ("a number is not text", 1, "1", False),
    ("null is null", None, None, True),
    ("null is not text", None, "null", False),
    ("null is not false", None, False, False),
    ("case counts", "A", "a", False),
    ("blanks count", "a ", "a", False),
    ("composed is not decomposed", "é", "e\u0301", False),
    ("no wildcards", "abc", "%", False),
    ("quotes", 'a"b\\c', 'a"b\\c', True),
    ("control characters", "a\n\x00\x7f", "a\n\x00\x7f", True),
    ("injection", "'); DROP TABLE items; --", "'); DROP TABLE items; --", True),
    ("the last digit", 0.1 + 0.2, 0.3, False),
    ("17 digits", 0.1 + 0.2, 0.30000000000000004, True),
    ("large integers are exact", 2**53 + 1, 2**53, False),
    ("large integer and number", 2**62, float(2**62), True),
    ("tiny", 5e-324, 5e-324, True),
    ("a list equals nothing", [1], 1, False),
    ("an object equals nothing", {"a": 1}, 1, False),
]


@pytest.mark.parametrize(("stored", "wanted", "equal"), [p[1:] for p in PAIRS], ids=[p[0] for p in PAIRS])
def test_equality_is_json_s(store: Store, stored: Any, wanted: Any, equal: bool) -> None:
    item = replace(make_item("a"), metadata={"field": stored, "other": wanted})
    store.upsert([item, replace(make_item("b"), metadata={})])
    document = {"match": {"field": wanted}}
    assert [found.id for found in walk(store, filter=document)] == (["a"] if equal else [])
    assert [hit.id for hit in store.search(unit_vectors(0, 1), 9, document)[0]] == (["a"] if equal else [])
    assert matches(document, item) is equal


def test_absent_is_not_null_and_reserved_names_are_the_item_s_own(store: Store) -> None:
    item = replace(make_item("a", 0), metadata={"id": "b", "width": "9", "deep": {"id": "c"}})
    store.upsert([item])
    for document, found in (
        ({"match": {"nothing": None}}, False),
        ({"match": {"id": "a"}}, True),
        ({"match": {"id": "b"}}, False),
        ({"match": {"width": "0.25"}}, True),
        ({"match": {"width": "0.250"}}, False),
        ({"match": {"deep.id": "c"}}, True),
        ({"match": {"deep.id.x": "c"}}, False),
    ):
        assert bool(walk(store, filter=document)) is found, document


NAMES = st.sampled_from(["a", "b", "ä", "a b", "$", "0", "x[0]", "id", "*", "'", "#-1", "-> '$'"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, -0.0, 1.0, 1e16, 1e-7, "", "1", "true", "null", "a", "ä", "%"])
    | st.text(st.characters(codec="utf-8"), max_size=5)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
METADATA = st.dictionaries(NAMES, VALUES, max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join).filter(lambda path: path not in ("id", "width"))


def present(metadata: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Every field that is really there, so that a drawn filter has something to find."""
    pairs: list[tuple[str, Any]] = []
    todo = [("", data) for data in metadata]
    while todo:
        where, data = todo.pop()
        for name, value in data.items():
            if isinstance(value, dict):
                todo.append((f"{where}{name}.", value))
            elif not isinstance(value, list) and f"{where}{name}" not in ("id", "width"):
                pairs.append((f"{where}{name}", value))
    return pairs


def test_any_filter_agrees_with_the_oracle(opener: Opener, tmp_path: Path) -> None:
    store = opener(tmp_path)

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(METADATA, min_size=1, max_size=6), st.data())
    def check(metadata: list[dict[str, Any]], data: st.DataObject) -> None:
        items = [replace(make_item(f"i{i}", i), metadata=m) for i, m in enumerate(metadata)]
        store.delete([f"i{i}" for i in range(6)])
        store.upsert(items)
        terms = st.tuples(PATHS, SCALARS)
        if there := present(metadata):
            terms = st.sampled_from(there) | terms
        term = terms.map(lambda pair: {"match": {pair[0]: pair[1]}})
        document = data.draw(term | st.lists(term, min_size=1, max_size=2).map(lambda parts: {"and": parts}))
        expected = [item.id for item in items if matches(document, item)]
        assert [found.id for found in walk(store, filter=document)] == expected
        assert {hit.id for hit in store.search(unit_vectors(0, 1), 9, document)[0]} == set(expected)

    check()
    store.close()
