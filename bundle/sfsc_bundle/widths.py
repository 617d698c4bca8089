"""The name of a width: one spelling for `1`, `1.0` and `1.00`, and `1.0-int8` for its graph in int8.

Requests, answers, costs, metrics and stored items know a submodel by this name. To the service it is a key: no
module there reads a number out of it.
"""

from decimal import Decimal, InvalidOperation
from typing import Literal, assert_never

__all__ = ["WIDTH_PATTERN", "Precision", "canonical_width", "submodel_name"]

Precision = Literal["int8", "float32"]
"""What a graph computes in; the order is that of the submodels of one width, the least exact first."""

_INT8 = "-int8"

WIDTH_PATTERN = rf"^(0\.\d{{1,4}}|1(\.0{{1,4}})?)({_INT8})?$"
"""The usual spellings, as a regular expression that JSON Schema and Python read alike."""


def canonical_width(value: str | float) -> str:
    """Return the canonical name of a width: the shortest decimal with at least one digit after the point.

    A width in int8 keeps its suffix.

    >>> canonical_width("1"), canonical_width(0.25), canonical_width("0.750-int8")
    ('1.0', '0.25', '0.75-int8')

    Raises:
        ValueError: not a number above 0 and at most 1 with no more than four decimals.
    """
    given = str(value).strip()
    text = given.removesuffix(_INT8)
    try:
        number = Decimal(text) if len(text) <= 16 else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or not 0 < number <= 1 or number != round(number, 4):
        raise ValueError(
            f"a width is a number above 0 and at most 1 with at most four decimals, found {text[:40]!r}"
        )
    plain = f"{number.normalize():f}"
    return (plain if "." in plain else f"{plain}.0") + given[len(text) :]


def submodel_name(width: str, precision: Precision) -> str:
    """The name of a width's graph in a precision; in float32 it is the width itself."""
    match precision:
        case "float32":
            return width
        case "int8":
            return width + _INT8
        case _:
            assert_never(precision)
