"""Reading filters: what is refused, with which message, and what the rest becomes."""

from typing import Any

import pytest

from sfsc_service.store.errors import InvalidFilterError
from sfsc_service.store.filters.language import MAX_DEPTH, MAX_TERMS, MAX_VALUES, parse
from sfsc_service.store.filters.operands import MAX_FIELD_LENGTH, MAX_VALUE_LENGTH
from sfsc_service.store.filters.terms import (
    And,
    Compares,
    Contains,
    Equals,
    Exists,
    ItemField,
    MetadataField,
    Not,
    Or,
    Term,
)

A, B = MetadataField(("a",)), MetadataField(("b",))
ID, WIDTH, CREATED = ItemField("id"), ItemField("width"), ItemField("created")

READ: list[tuple[Any, Term]] = [
    ({"a": 1}, Equals(A, (1,))),
    ({"a": None}, Equals(A, (None,))),
    ({"a": 1, "b": "x"}, And((Equals(A, (1,)), Equals(B, ("x",))))),
    ({"a": {"$eq": 1}}, Equals(A, (1,))),
    ({"a": {"$ne": True}}, Not(Equals(A, (True,)))),
    ({"a": {"$in": [1, "x"]}}, Equals(A, (1, "x"))),
    ({"a": {"$in": []}}, Equals(A, ())),
    ({"a": {"$nin": [1]}}, Not(Equals(A, (1,)))),
    ({"a": {"$gte": 1, "$lt": 2.5}}, And((Compares(A, "$gte", 1), Compares(A, "$lt", 2.5)))),
    ({"a": {"$gt": "x"}}, Compares(A, "$gt", "x")),
    ({"a": {"$exists": True}}, Exists(A)),
    ({"a": {"$exists": False}}, Not(Exists(A))),
    ({"a": {"$contains": "x"}}, Contains(A, "x")),
    ({"a": {"$not": {"$lte": 1}}}, Not(Compares(A, "$lte", 1))),
    ({"$and": [{"a": 1}, {"b": 2}]}, And((Equals(A, (1,)), Equals(B, (2,))))),
    ({"$or": [{"a": 1}], "b": 2}, And((Or((Equals(A, (1,)),)), Equals(B, (2,))))),
    ({"$not": {"a": 1}}, Not(Equals(A, (1,)))),
    ({"$id": {"$in": ["x"]}}, Equals(ID, ("x",))),
    ({"$width": 1}, Equals(WIDTH, ("1.0",))),
    ({"$width": {"$lt": "0.50"}}, Compares(WIDTH, "$lt", "0.5")),
    ({"$width": "of another space"}, Equals(WIDTH, ("of another space",))),
    ({"$created": {"$gt": "1970-01-02"}}, Compares(CREATED, "$gt", 86_400_000_000)),
    ({"$created": "1970-01-01T01:00:00.000001+01:00"}, Equals(CREATED, (1,))),
    ({"id": "x"}, Equals(MetadataField(("id",)), ("x",))),
    ({"a.b": 1}, Equals(MetadataField(("a", "b")), (1,))),
    ({r"a\.b.c": 1}, Equals(MetadataField(("a.b", "c")), (1,))),
    ({r"\$id": 1}, Equals(MetadataField(("$id",)), (1,))),
    ({"a.$b": 1}, Equals(MetadataField(("a", "$b")), (1,))),
]


@pytest.mark.parametrize(("document", "term"), READ, ids=[str(document) for document, _ in READ])
def test_a_filter_becomes_terms(document: Any, term: Term) -> None:
    assert parse(document) == term


def nested(depth: int) -> dict[str, Any]:
    return {"$and": [nested(depth - 1)]} if depth > 1 else {"a": 1}


REFUSED: list[tuple[Any, str]] = [
    ([], "filter: must be an object of 1 .. 64 fields and operators; found []"),
    (None, "found null"),
    ({}, "found {}"),
    (
        {"$like": 1},
        r"filter: a name with $ must be one of $and, $or, $not, $id, $width, $created; \$ begins a field",
    ),
    (
        {"a": {"$like": 1}},
        "filter.a: operator must be one of $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, ",
    ),
    ({"a": {"b": 1}}, "$contains, $not; found 'b'"),
    ({"a": {1: 1}}, "found 1"),
    ({"a": {}}, "filter.a: must be a value or an object of 1 .. 64 operators"),
    (
        {"a": [1]},
        "filter.a: must be a string, a finite number (integers: 64 bits), true, false or null; $in compares",
    ),
    ({"a": {"$in": 1}}, "filter.a.$in: must be a list of at most 1000 values; found 1"),
    ({"a": {"$in": [1, {}]}}, "filter.a.$in[1]: must be a string"),
    ({"a": {"$gt": None}}, "filter.a.$gt: must be a number or a string; found null"),
    ({"a": {"$gt": True}}, "filter.a.$gt: must be a number or a string; found true"),
    ({"a": {"$exists": 1}}, "filter.a.$exists: must be true or false; found 1"),
    ({"a": {"$not": 1}}, "filter.a.$not: must be an object of operators; found 1"),
    ({"a": {"$contains": []}}, "filter.a.$contains: must be a string"),
    ({"$and": []}, "filter.$and: must be a list of 1 .. 64 filters; found []"),
    ({"$or": {"a": 1}}, "filter.$or: must be a list of 1 .. 64 filters"),
    ({"$or": [{"a": 1}, 5]}, "filter.$or[1]: must be an object of 1 .. 64 fields and operators; found 5"),
    ({"$not": []}, "filter.$not: must be an object"),
    ({"$id": 1}, "filter.$id: must be a string; found 1"),
    (
        {"$id": {"$exists": True}},
        "filter.$id: operator must be one of $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin; ",
    ),
    ({"$width": None}, "filter.$width: must be a width; found null"),
    ({"$created": 1}, "filter.$created: must be a time such as 2026-11-26T12:00:00Z; found 1"),
    ({"$created": "yesterday"}, "found 'yesterday'"),
    ({"a": float("nan")}, "found nan"),
    ({"a": 2**63}, "integers: 64 bits"),
    ({"a": -(2**63) - 1}, "integers: 64 bits"),
    ({"a": "\udfff"}, "Unicode text"),
    ({"a": "x" * (MAX_VALUE_LENGTH + 1)}, "must be at most 16384 characters"),
    ({"": 1}, "a field must have 1 .. 256 characters"),
    ({"a" * (MAX_FIELD_LENGTH + 1): 1}, "a field must have 1 .. 256 characters"),
    ({1: 1}, "a field must have 1 .. 256 characters"),
    ({"a..b": 1}, "names joined by dots"),
    ({"a.": 1}, "names joined by dots"),
    ({'a"b': 1}, "without quotes"),
    ({"a\\b": 1}, "backslashes other than"),
    ({"a\x00": 1}, "control characters"),
    (nested(MAX_DEPTH + 1), "filter: must be nested at most 8 deep; found more at filter.$and[0].$and[0]"),
    (nested(900), "nested at most 8 deep"),
    ({f"f{n}": n for n in range(MAX_TERMS + 1)}, "1 .. 64 fields"),
    ({"$and": [{"a": 1, "b": 2}] * 33}, "filter: must have at most 64 comparisons; found 66"),
    (
        {"a": {"$in": list(range(600))}, "b": {"$nin": list(range(600))}},
        "must have at most 1000 values; found 1200",
    ),
    ({"$and": [{"$and": [{"a": 1}] * 64}] * 64}, "found more than 4096 members and entries"),
    # The language before this one.
    ({"match": {"colour": "red"}}, "filter.match: operator must be one of"),
    ({"and": [{"match": {"a": 1}}]}, "filter.and: must be a string"),
]


@pytest.mark.parametrize(("document", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_not_of_the_language_is_refused_with_place_and_rule(document: Any, message: str) -> None:
    with pytest.raises(InvalidFilterError) as caught:
        parse(document)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def largest() -> Any:
    """As many comparisons as may be, far nested, and almost as many values."""
    document: Any = {"$and": [{"$or": [{"a": {"$in": list(range(15))}}]} for _ in range(MAX_TERMS)]}
    parts = document["$and"]
    for part in parts:
        inner: Any = part["$or"]
        for _ in range(MAX_DEPTH - 5):
            inner[0] = {"$or": [inner[0]]}
    return document


@pytest.mark.parametrize(
    "document",
    [
        nested(MAX_DEPTH),
        {f"f{n}": n for n in range(MAX_TERMS)},
        {"a": {"$in": list(range(MAX_VALUES))}},
        largest(),
        {"a" * MAX_FIELD_LENGTH: "x" * MAX_VALUE_LENGTH},
        {"a": 2**63 - 1, "b": -(2**63)},
    ],
    ids=["depth", "terms", "values", "parts", "lengths", "integers"],
)
def test_what_is_just_within_a_limit_is_taken(document: Any) -> None:
    assert parse(document)
