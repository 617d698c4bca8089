"""Metadata as a flat JSON object of texts, in which comparing texts is all that a filter needs.

    F<field>   what stands at a field: a text of its kind and value
    L<field>   where that is a list: the texts of its elements, each once, without lists and objects

    z null    b0 false    b1 true    n<number>    s<string>    l a list    o an object

Texts of numbers are in the order of the numbers, those of strings in the order of code points, and equal numbers
have one text. So it does not matter how a database reads JSON's numbers, or compares a number with a string.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from sfsc_service.store.filters.terms import Scalar

__all__ = ["KINDS", "field_key", "flat_fields", "list_key", "sort_key"]

KINDS = {str: ("s", "t"), float: ("n", "o")}
"""The first text that may be one of a string, of a number, and the first after them."""

_MANTISSA_BITS = 64
_EXPONENT_BIAS = 2048


def flat_fields(metadata: dict[str, Any]) -> dict[str, str | list[str]]:
    """The texts of all fields of the metadata, by key."""
    return dict(_flat(metadata, ()))


def field_key(path: tuple[str, ...]) -> str:
    """The key of what stands at a field: of fixed length, and of letters, digits, - and _."""
    digest = hashlib.blake2b(json.dumps(path).encode(), digest_size=9).digest()
    return f"F{base64.urlsafe_b64encode(digest).decode()}"


def list_key(path: tuple[str, ...]) -> str:
    """The key of the elements of the list at a field."""
    return f"L{field_key(path)[1:]}"


def sort_key(value: Scalar) -> str:
    """The text of a value.

    >>> sort_key(1) == sort_key(1.0), sort_key(2) < sort_key(10), sort_key("b") < sort_key("ä")
    (True, True, True)
    """
    if value is None:
        return "z"
    if isinstance(value, bool):
        return f"b{value:d}"
    if isinstance(value, str):
        return f"s{value.encode('utf-8', 'surrogatepass').hex()}"
    return f"n{_number(value)}"


def _flat(members: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, str | list[str]]]:
    for name, value in members.items():
        path = (*above, name)
        if isinstance(value, dict):
            yield field_key(path), "o"
            yield from _flat(value, path)
        elif isinstance(value, list):
            yield field_key(path), "l"
            elements = {sort_key(element): None for element in value if not isinstance(element, list | dict)}
            if elements:
                yield list_key(path), list(elements)
        else:
            yield field_key(path), sort_key(value)


def _number(value: int | float) -> str:
    """Sign, exponent and mantissa in hexadecimal, exact for integers of 64 bits and for floats.

    0 is `5`. Positive numbers are `6`, the biased exponent, and the mantissa without the zeros at its end.
    Negative ones are `4`, both complemented, and a `g`, greater than all digits, in place of the f's at the end.
    """
    if value == 0:
        return "5"
    exact = abs(Fraction(value))
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    if exact < _power_of_two(exponent):
        exponent -= 1
    mantissa = int(exact / _power_of_two(exponent) * 2 ** (_MANTISSA_BITS - 1))
    if value > 0:
        return f"6{exponent + _EXPONENT_BIAS:03x}{mantissa:016x}".rstrip("0")
    complement = 2**_MANTISSA_BITS - 1 - mantissa
    return f"4{4095 - exponent - _EXPONENT_BIAS:03x}{complement:016x}".rstrip("f") + "g"


def _power_of_two(exponent: int) -> Fraction:
    return Fraction(2) ** exponent
