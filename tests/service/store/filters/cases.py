"""What filters mean, as cases that every implementation of them is held to."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from sfsc_service.store.protocol import Item
from tests.service.store.making import make_item

MISSING = object()
BIG = 2**53
# What stands in the field, a condition on it, and whether it holds.
CASES: list[tuple[Any, Any, bool]] = [
    (True, True, True),
    (True, 1, False),
    (1, True, False),
    (False, 0, False),
    (1, 1.0, True),
    (1.0, 1, True),
    (-0.0, 0, True),
    ("1", 1, False),
    (1, "1", False),
    (None, None, True),
    (None, "null", False),
    (MISSING, None, False),
    ("A", "a", False),
    ("é", "e\u0301", False),
    ("a\n\x00\x7f", "a\n\x00\x7f", True),
    ("'); DROP TABLE items; --", "'); DROP TABLE items; --", True),
    (0.1 + 0.2, 0.3, False),
    (0.1 + 0.2, 0.30000000000000004, True),
    (BIG + 1, BIG, False),
    (BIG + 1, BIG + 1, True),
    (float(BIG), BIG, True),
    (5e-324, 5e-324, True),
    ([1], 1, False),
    ({"b": 1}, 1, False),
    (MISSING, {"$ne": 1}, True),
    (None, {"$ne": 1}, True),
    (1, {"$ne": 1.0}, False),
    (2, {"$in": [1, 2]}, True),
    (2, {"$in": []}, False),
    (MISSING, {"$nin": [1]}, True),
    (2, {"$nin": []}, True),
    (7, {"$in": list(range(20))}, True),
    (7.5, {"$in": list(range(20))}, False),
    (2, {"$gt": 1}, True),
    (2, {"$gt": 2}, False),
    (2, {"$gte": 2.0}, True),
    (2, {"$gt": "1"}, False),
    ("2", {"$gt": 1}, False),
    ("b", {"$gt": "a", "$lt": "c"}, True),
    ("a\x00b", {"$gt": "a"}, True),
    ("\U0001f600", {"$gt": "\uffff"}, True),
    (True, {"$gt": 0}, False),
    (True, {"$lte": 1}, False),
    (None, {"$lt": 1}, False),
    (MISSING, {"$lt": 1}, False),
    (MISSING, {"$not": {"$lt": 1}}, True),
    ([2], {"$gt": 1}, False),
    (BIG + 1, {"$gt": BIG}, True),
    (BIG, {"$gte": BIG + 1}, False),
    (BIG + 2, {"$gt": BIG + 1}, True),
    (BIG, {"$lt": BIG + 1}, True),
    (BIG + 4, {"$lte": BIG + 3}, False),
    (BIG + 4, {"$gte": BIG + 3}, True),
    (0.3, {"$lt": 0.1 + 0.2}, True),
    (None, {"$exists": True}, True),
    (MISSING, {"$exists": True}, False),
    (MISSING, {"$exists": False}, True),
    ({"b": 1}, {"$exists": True}, True),
    ([], {"$exists": True}, True),
    (["x", 1, None], {"$contains": 1.0}, True),
    (["x", True], {"$contains": 1}, False),
    ([[1], {"a": 1}], {"$contains": 1}, False),
    (["x", None], {"$contains": None}, True),
    ("x", {"$contains": "x"}, False),
    (MISSING, {"$contains": "x"}, False),
]


FIELDS: list[tuple[str, bool]] = [
    ("a", True),
    ("deep.b", True),
    ("deep", True),
    ("deep.b.c", False),
    ("deep.list.0", False),
    (r"with\.dot", True),
    ("with.dot", False),
    (r"\$id", True),
    ("id", True),
    (r"deep.x\.y", True),
    ("x[0]", True),
    ("ä b", True),
]
FIELDS_METADATA: dict[str, Any] = {
    "a": 1,
    "deep": {"b": 1, "list": [1], "x.y": 1},
    "with.dot": 1,
    "$id": 1,
    "id": 1,
    "x[0]": 1,
    "ä b": 1,
}
"""Where FIELDS are, or are not."""


def item_of(metadata: Any, n: int = 0) -> Item:
    return replace(make_item(f"i{n}", n), metadata=metadata)


NAMES = st.sampled_from(["a", "b", "ä", "0", "$", "a.b", "$id"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.integers(BIG - 2, BIG + 4)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, -0.0, 1.0, 1e16, "", "1", "true", "null", "a", "b"])
    | st.text(st.characters(codec="utf-8"), max_size=3)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
METADATA = st.dictionaries(NAMES, VALUES, max_size=4)


def escaped(path: tuple[str, ...]) -> str:
    field = ".".join(name.replace(".", r"\.") for name in path)
    return "\\" + field if field.startswith("$") else field


def there(metadata: Any, above: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """Every field with every value or element that stands there, so that drawn filters find something."""
    pairs = []
    for name, value in metadata.items():
        path = (*above, name)
        if isinstance(value, dict):
            pairs += there(value, path)
        else:
            elements = value if isinstance(value, list) else [value]
            pairs += [(escaped(path), one) for one in elements if not isinstance(one, list | dict)]
    return pairs


@st.composite
def filters(draw: st.DrawFn, pairs: list[tuple[str, Any]], depth: int = 2) -> dict[str, Any]:
    field, value = draw(st.sampled_from([*pairs, ("a", 1)]))
    if draw(st.booleans()):
        value = draw(SCALARS)
    bound = value if isinstance(value, str | int | float) and not isinstance(value, bool) else 1
    inner = filters(pairs, depth - 1)
    kinds: list[st.SearchStrategy[dict[str, Any]]] = [
        st.sampled_from([{field: value}, {field: {"$ne": value}}, {field: {"$contains": value}}]),
        st.sampled_from([{field: {name: bound}} for name in ("$gt", "$gte", "$lt", "$lte")]),
        st.sampled_from([{field: {"$exists": True}}, {field: {"$not": {"$eq": value, "$exists": True}}}]),
        st.lists(SCALARS, max_size=10).map(lambda more: {field: {"$in": [value, *more]}}),
        st.sampled_from([{"$width": {"$lt": "1.0"}}, {"$id": {"$ne": "i0"}}]),
    ]
    if depth:
        kinds += [inner.map(lambda one: {"$not": one})]
        kinds += [st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$and": parts})]
        kinds += [st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$or": parts})]
    return draw(st.one_of(kinds))
