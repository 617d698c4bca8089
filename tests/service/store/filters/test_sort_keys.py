"""Texts of values are in the order of the values, so that a database needs to compare nothing but texts."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sfsc_service.store.filters.sort_keys import KINDS, field_key, flat_fields, list_key, sort_key

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=4)


@given(NUMBERS, NUMBERS)
@example(2**53, 2**53 + 1)
@example(float(2**53), 2**53)
@example(0.0, -0.0)
@example(5e-324, -5e-324)
@example(-1, -1.5)
@example(-16, -15.5)
@example(2**63 - 1, float(2**63))
def test_numbers(a: float, b: float) -> None:
    assert (sort_key(a) < sort_key(b)) == (a < b)
    assert (sort_key(a) == sort_key(b)) == (a == b)
    first, end = KINDS[float]
    assert first <= sort_key(a) < end


@given(TEXTS, TEXTS)
@example("\uffff", "\U0001f600")
@example("a", "a\x00")
def test_strings(a: str, b: str) -> None:
    assert (sort_key(a) < sort_key(b)) == (a < b)
    assert (sort_key(a) == sort_key(b)) == (a == b)
    first, end = KINDS[str]
    assert first <= sort_key(a) < end


def test_values_of_different_kinds_have_different_texts() -> None:
    values: list[Any] = [None, False, True, 0, 1, "", "0", "1", "null", "true"]
    assert len({sort_key(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    ("metadata", "flat"),
    [
        ({}, {}),
        ({"a": None}, {field_key(("a",)): "z"}),
        ({"a": []}, {field_key(("a",)): "l"}),
        (
            {"a": {"b": [1, 1.0, "x", [2], {}]}},
            {
                field_key(("a",)): "o",
                field_key(("a", "b")): "l",
                list_key(("a", "b")): [sort_key(1), sort_key("x")],
            },
        ),
        ({"a.b": 1}, {field_key(("a.b",)): sort_key(1)}),
    ],
)
def test_metadata_become_flat(metadata: dict[str, Any], flat: dict[str, Any]) -> None:
    assert flat_fields(metadata) == flat
