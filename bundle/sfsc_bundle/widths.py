"""The name of a width: one spelling for `1`, `1.0` and `1.00`.

Requests, answers, costs, metrics and stored items know a submodel by this name. To the service it is a key: no
module there reads a number out of it.
"""

from decimal import Decimal, InvalidOperation
from functools import lru_cache

__all__ = ["WIDTH_PATTERN", "canonical_width"]

WIDTH_PATTERN = r"^(0\.\d{1,4}|1(\.0{1,4})?)$"
"""The usual spellings, as a regular expression that JSON Schema and Python read alike."""


def canonical_width(value: str | float) -> str:
    """Return the canonical name of a width: the shortest decimal with at least one digit after the point.

    >>> canonical_width("1"), canonical_width(0.25), canonical_width("0.750")
    ('1.0', '0.25', '0.75')

    Raises:
        ValueError: not a number above 0 and at most 1 with no more than four decimals.
    """
    return _canonical(str(value).strip())


@lru_cache(64)
def _canonical(text: str) -> str:
    try:
        number = Decimal(text) if len(text) <= 16 and "_" not in text else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or not 0 < number <= 1 or number != round(number, 4):
        raise ValueError(
            f"a width is a number above 0 and at most 1 with at most four decimals, found {text[:40]!r}"
        )
    plain = f"{number.normalize():f}"
    return plain if "." in plain else f"{plain}.0"
