"""The filter language: JSON in, SQL with bound parameters out.

    {"match": {"field": value}}    the field is there and equals the value (several fields: all of them)
    {"and": [filter, ...]}         all of them hold

A field is a dotted path into the metadata's objects ("camera.id"), or one of the reserved names `id` and `width`,
which are the item's own. A value is a string, a number, true, false or null. Types are kept apart as in JSON:
true is not 1, "1" is not 1, null is not "absent", but 1 equals 1.0. A list or an object equals no value.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sfsc_bundle.described import describe_value
from sfsc_service.store.errors import InvalidFilterError

__all__ = [
    "MAX_DEPTH",
    "MAX_FIELD_LENGTH",
    "MAX_TERMS",
    "And",
    "Condition",
    "Match",
    "Node",
    "compile_sql",
    "parse",
]

MAX_DEPTH = 8
MAX_TERMS = 64
MAX_FIELD_LENGTH = 256
MAX_VALUE_LENGTH = 16 * 1024
_RESERVED = ("id", "width")
_LATER = ("any", "range", "exists", "or", "not")
# SQLite compares names in a JSON path with the raw text between the quotes of the stored key, escapes included.
_UNREACHABLE = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')
_UNWRITABLE = re.compile(r"[\ud800-\udfff]")

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Match:
    """`path`: names from the metadata's root, or one reserved name."""

    path: tuple[str, ...]
    value: Scalar

    @property
    def reserved(self) -> bool:
        return len(self.path) == 1 and self.path[0] in _RESERVED


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple["Node", ...]


Node = Match | And


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL expression over the columns id, width and metadata, and its parameters in order."""

    sql: str
    values: tuple[str, ...]


def parse(document: Any) -> Node:
    """Check a filter.

    Raises:
        InvalidFilterError: it is not of this language, or too deep, or has more than MAX_TERMS terms.
    """
    node = _node(document, "filter", 1)
    if (found := _count(node)) > MAX_TERMS:
        raise InvalidFilterError("filter", f"must hold at most {MAX_TERMS} terms", f"{found}")
    return node


def compile_sql(node: Node) -> Condition:
    match node:
        case And(terms):
            parts = [compile_sql(term) for term in terms]
            values = tuple(value for part in parts for value in part.values)
            return Condition(" AND ".join(f"({part.sql})" for part in parts), values)
        case Match(path, value) if node.reserved:
            return Condition(f"{path[0]} = ?", (str(value),))
        case Match(path, value):
            forms = _texts(value)
            where = "$" + "".join(f'."{name}"' for name in path)
            return Condition(f"(metadata -> ?) IN ({', '.join('?' * len(forms))})", (where, *forms))


def _node(document: Any, place: str, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise InvalidFilterError("filter", f"must be nested at most {MAX_DEPTH} deep", f"more at {place[:200]}")
    if not isinstance(document, dict) or len(document) != 1:
        raise InvalidFilterError(place, "must be an object with exactly one operator", describe_value(document))
    ((operator, operand),) = document.items()
    if operator in _LATER:
        raise InvalidFilterError(place, "knows match and and today", f"{operator}, which is not supported yet")
    if operator not in _PARSERS:
        raise InvalidFilterError(place, "must be one of match, and", f"{str(operator)[:40]!r}")
    return _PARSERS[operator](operand, f"{place}.{operator}", depth)


def _match(operand: Any, place: str, _depth: int) -> Node:
    if not isinstance(operand, dict) or not 1 <= len(operand) <= MAX_TERMS:
        raise InvalidFilterError(place, f"must be an object of 1 .. {MAX_TERMS} fields", describe_value(operand))
    terms = tuple(_term(field, value, place) for field, value in operand.items())
    return terms[0] if len(terms) == 1 else And(terms)


def _and(operand: Any, place: str, depth: int) -> Node:
    if not isinstance(operand, list) or not 1 <= len(operand) <= MAX_TERMS:
        raise InvalidFilterError(place, f"must be a list of 1 .. {MAX_TERMS} filters", describe_value(operand))
    return And(tuple(_node(part, f"{place}[{i}]", depth + 1) for i, part in enumerate(operand)))


_PARSERS: dict[str, Callable[[Any, str, int], Node]] = {"match": _match, "and": _and}


def _term(field: Any, value: Any, place: str) -> Match:
    if not isinstance(field, str) or not 1 <= len(field) <= MAX_FIELD_LENGTH:
        raise InvalidFilterError(
            place, f"a field must have 1 .. {MAX_FIELD_LENGTH} characters", describe_value(field)
        )
    path = tuple(field.split("."))
    if "" in path or _UNREACHABLE.search(field):
        rule = "a field must be names joined by dots, without quotes, backslashes and control characters"
        raise InvalidFilterError(place, rule, f"{field[:80]!r}")
    term = Match(path, _value(value, f"{place}.{field}"))
    if term.reserved and not isinstance(value, str):
        raise InvalidFilterError(f"{place}.{field}", "must be a string", describe_value(value))
    return term


def _value(value: Any, place: str) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > MAX_VALUE_LENGTH or _UNWRITABLE.search(value):
            rule = f"must be at most {MAX_VALUE_LENGTH} characters of Unicode text"
            raise InvalidFilterError(place, rule, f"{len(value)} characters")
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    rule = "must be a string, a finite number (integers: 64 bits), true, false or null"
    raise InvalidFilterError(place, rule, describe_value(value))


def _texts(value: Scalar) -> list[str]:
    """All texts under which the stored metadata may hold this value.

    Text is compared, not what SQLite makes of it: its reading of decimal numbers is not exact in every version.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [json.dumps(value, ensure_ascii=False)]
    if value == 0:
        return ["0", "0.0", "-0.0"]
    equals = (int(value), float(value)) if value == int(value) else (value,)
    return [json.dumps(number) for number in equals if number == value]


def _count(node: Node) -> int:
    return sum(_count(term) for term in node.terms) if isinstance(node, And) else 1
