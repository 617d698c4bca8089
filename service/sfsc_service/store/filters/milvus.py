"""Filters as Milvus expressions over a collection of items: id, width, created, and `fields` as of sort_keys.py.

Versions of Milvus differ in what a comparison with a missing key is, in `in` on JSON, and in how numbers are
compared; so every condition on the metadata asks first whether the key is there, and compares texts only. Many
conditions are joined as a balanced tree, because the depth of an expression is limited.
"""

import json
import re
from collections.abc import Sequence
from typing import assert_never

from sfsc_service.store.filters.sort_keys import KINDS, field_key, list_key, sort_key
from sfsc_service.store.filters.terms import (
    And,
    Compares,
    Comparison,
    Contains,
    Equals,
    Exists,
    Field,
    ItemField,
    MetadataField,
    Not,
    Or,
    Scalar,
    Term,
)

__all__ = ["literal", "one_of", "to_expression"]

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_NEVER = '(id == "")'
_SYMBOLS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def to_expression(term: Term) -> str:
    """The expression that holds for the same items as `term`."""
    match term:
        case Equals():
            return _equals(term.field, term.values)
        case Compares():
            return _compares(term)
        case Exists():
            return f"(exists {_member(field_key(term.field.path))})"
        case Contains():
            key = list_key(term.field.path)
            return _with(key, f"json_contains({_member(key)}, {literal(sort_key(term.value))})")
        case And():
            return _joined("and", [to_expression(part) for part in term.terms])
        case Or():
            return _joined("or", [to_expression(part) for part in term.terms])
        case Not():
            return f"(not {to_expression(term.term)})"
        case _:
            assert_never(term)


def one_of(column: str, values: Sequence[str]) -> str:
    """Holds where a column of texts has one of some values."""
    return f"({column} in [{', '.join(map(literal, values))}])"


def literal(value: Scalar) -> str:
    """A text or an integer as it stands in an expression."""
    return json.dumps(value, ensure_ascii=False)


def _equals(field: Field, values: Sequence[Scalar]) -> str:
    if not values:
        return _NEVER
    if isinstance(field, ItemField):
        possible = [value for value in values if not (isinstance(value, str) and _CONTROL.search(value))]
        return f"({field.name} in [{', '.join(map(literal, possible))}])" if possible else _NEVER
    member, texts = _field(field), dict.fromkeys(map(sort_key, values))
    return _with(field_key(field.path), _joined("or", [f"({member} == {literal(text)})" for text in texts]))


def _compares(term: Compares) -> str:
    if isinstance(term.field, ItemField):
        return _compares_item(term.field, term.comparison, term.bound)
    symbol = _SYMBOLS[term.comparison]
    first, end = KINDS[str if isinstance(term.bound, str) else float]
    member, bound = _field(term.field), literal(sort_key(term.bound))
    within = f'({member} {symbol} {bound}) and ({member} >= "{first}") and ({member} < "{end}")'
    return _with(field_key(term.field.path), f"({within})")


def _compares_item(field: ItemField, comparison: Comparison, bound: str | int | float) -> str:
    symbol = _SYMBOLS[comparison]
    if isinstance(bound, str) and (control := _CONTROL.search(bound)):
        # No id has such a character: what is above the bound begins at the first text that could be an id.
        following = " " if control[0] < " " else "\xa0"
        bound, symbol = bound[: control.start()] + following, ">=" if symbol[0] == ">" else "<"
    return f"({field.name} {symbol} {literal(bound)})"


def _with(key: str, condition: str) -> str:
    return f"((exists {_member(key)}) and {condition})"


def _field(field: MetadataField) -> str:
    return _member(field_key(field.path))


def _member(key: str) -> str:
    return f'fields["{key}"]'


def _joined(by: str, parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return f"({_joined(by, parts[:half])} {by} {_joined(by, parts[half:])})"
