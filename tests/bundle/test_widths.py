"""`1`, `1.0` and `1.00` name one width."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfsc_bundle.widths import canonical_width

ratios = st.integers(1, 10_000).map(lambda n: Decimal(n) / 10_000)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("1", "1.0"),
        ("1.0", "1.0"),
        ("1.00", "1.0"),
        (1, "1.0"),
        (1.0, "1.0"),
        ("0.25", "0.25"),
        ("0.250", "0.25"),
        (".5", "0.5"),
        (" 0.5 ", "0.5"),
        ("+0.5", "0.5"),
        ("5e-1", "0.5"),
        (0.1, "0.1"),
        ("0.0001", "0.0001"),
        ("0.3333", "0.3333"),
        ("0.250-int8", "0.25-int8"),
        ("1-int8", "1.0-int8"),
    ],
)
def test_spellings(spelling: str | float, name: str) -> None:
    assert canonical_width(spelling) == name


OUT_OF_RANGE = ["0", "0.0", "-0", "-0.5", "1.0001", "2", "1e9", 0, -1, 1.5]
TOO_FINE = ["0.00001", "0.33333", "1e-999999", 1e-5]
ODD_PRECISIONS = ["0.5-int4", "0.5-float32", "0.5int8", "-int8", "0.5-int8-int8", "int8-0.5", "2-int8"]
NO_NUMBER = ["", " ", "half", "0,5", "1/2", "0x1", "1" * 1000, True]
NOT_FINITE = ["nan", "sNaN", "inf", "-inf", float("nan"), float("inf")]


@pytest.mark.parametrize("value", [*OUT_OF_RANGE, *TOO_FINE, *ODD_PRECISIONS, *NO_NUMBER, *NOT_FINITE])
def test_refused(value: str | float) -> None:
    with pytest.raises(ValueError, match="a width is a number above 0 and at most 1") as caught:
        canonical_width(value)
    assert len(str(caught.value)) < 200


@given(ratios, st.integers(0, 4))
def test_every_spelling_of_a_ratio_has_one_name(ratio: Decimal, zeros: int) -> None:
    name = canonical_width(str(ratio))
    assert Decimal(name) == ratio
    assert "." in name
    spellings = [name, name + "0" * zeros, f"{ratio:E}", f"{ratio:.4f}", float(ratio)]
    assert {canonical_width(spelling) for spelling in spellings} == {name}


@given(ratios, ratios)
def test_names_differ_exactly_where_ratios_do(one: Decimal, other: Decimal) -> None:
    assert (canonical_width(str(one)) == canonical_width(str(other))) == (one == other)


@given(st.text(max_size=20) | st.floats() | st.integers())
def test_anything_else_is_a_value_error(value: str | float) -> None:
    try:
        name = canonical_width(value)
    except ValueError:
        return
    assert 0 < float(name) <= 1
    assert canonical_width(name) == name
