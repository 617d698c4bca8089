"""Filters as SQL conditions on the columns of a table of items: id, width, created and metadata.

The dialect is SQLite's, whose `->` gives the JSON text that stands at a path of the metadata. What is greater, and
what a list contains, a function in Python tells: not every version of SQLite reads numbers and texts exactly.
"""

import json
import operator
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, assert_never

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
    identity,
)

__all__ = ["Condition", "add_functions", "to_sql"]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_SYMBOLS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL expression that is true or false, never NULL, and the values of its parameters, in order."""

    sql: str
    values: tuple[Scalar, ...]


def add_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the function that conditions call."""
    connection.create_function("json_meets", 3, _json_meets, deterministic=True)


def to_sql(term: Term) -> Condition:
    """The condition that holds for the same items as `term`."""
    match term:
        case Equals():
            return _equals(term.field, term.values)
        case Compares():
            return _compares(term.field, term.comparison, term.bound)
        case Exists():
            return Condition("json_type(metadata, ?) IS NOT NULL", (_json_path(term.field),))
        case Contains():
            return _meets(term.field, "$contains", term.value)
        case And():
            return _joined(" AND ", term.terms)
        case Or():
            return _joined(" OR ", term.terms)
        case Not():
            inner = to_sql(term.term)
            return Condition(f"NOT ({inner.sql})", inner.values)
        case _:
            assert_never(term)


def _equals(field: Field, values: Sequence[Scalar]) -> Condition:
    if isinstance(field, ItemField):
        return Condition(f"{field.name} IN ({_marks(values)})", tuple(values))
    texts = [text for value in values for text in _json_texts(value)]
    return Condition(f"((metadata -> ?) IN ({_marks(texts)})) IS TRUE", (_json_path(field), *texts))


def _compares(field: Field, comparison: Comparison, bound: str | int | float) -> Condition:
    if isinstance(field, ItemField):
        return Condition(f"{field.name} {_SYMBOLS[comparison]} ?", (bound,))
    return _meets(field, comparison, bound)


def _joined(by: str, terms: Iterable[Term]) -> Condition:
    parts = [to_sql(term) for term in terms]
    values = tuple(value for part in parts for value in part.values)
    return Condition(by.join(f"({part.sql})" for part in parts), values)


def _meets(field: MetadataField, name: str, operand: Scalar) -> Condition:
    # As bytes: a damaged text may be no text, and its checksum is to tell.
    sql = "json_meets(CAST((metadata -> ?) AS BLOB), ?, ?)"
    return Condition(sql, (_json_path(field), name, json.dumps(operand)))


def _json_meets(found: bytes | None, name: str, operand: str) -> bool:
    """Whether the JSON text of a value, None for a missing one, meets an operator of the language."""
    if found is None:
        return False
    value, wanted = json.loads(found.decode("utf-8", "surrogateescape")), _loaded(operand)
    if name == "$contains":
        return isinstance(value, list) and any(_equal(element, wanted) for element in value)
    kind = _ordered(value)
    return kind is not None and kind is _ordered(wanted) and bool(_COMPARE[name](value, wanted))


def _equal(element: Any, wanted: Scalar) -> bool:
    return not isinstance(element, list | dict) and identity(element) == identity(wanted)


def _ordered(value: Any) -> type | None:
    """What a value can be compared with."""
    if isinstance(value, str):
        return str
    return float if isinstance(value, int | float) and not isinstance(value, bool) else None


@lru_cache(maxsize=64)
def _loaded(operand: str) -> Any:
    return json.loads(operand)


def _json_path(field: MetadataField) -> str:
    return "$" + "".join(f'."{name}"' for name in field.path)


def _marks(values: Iterable[Any]) -> str:
    return ", ".join("?" for _ in values)


def _json_texts(value: Scalar) -> list[str]:
    """All texts under which the stored metadata may hold this value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [json.dumps(value, ensure_ascii=False)]
    if value == 0:
        return ["0", "0.0", "-0.0"]
    equals = (int(value), float(value)) if value == int(value) else (value,)
    return [json.dumps(number) for number in equals if number == value]
