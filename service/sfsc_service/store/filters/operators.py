"""The operators of the filter language, one class each: how it is read from JSON and what it is in SQL.

    {"match": {"field": value}}    the field is there and equals the value (several fields: all of them)
    {"and": [filter, ...]}         all of the filters hold

A field is a dotted path into the metadata's objects ("camera.id"), or one of the reserved names `id` and `width`,
which are the item's own. A value is a string, a number, true, false or null. Types are kept apart as in JSON:
true is not 1, "1" is not 1, null is not "absent", but 1 equals 1.0. A list or an object equals no value.

A new operator is a class in this file, listed in OPERATORS; no other file has to know it.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from sfsc_bundle.described import describe_value
from sfsc_service.store.errors import InvalidFilterError
from sfsc_service.store.filters.sql import Condition, Scalar, all_of, column_equals, metadata_equals

__all__ = [
    "MAX_FIELD_LENGTH",
    "MAX_TERMS",
    "MAX_VALUE_LENGTH",
    "OPERATORS",
    "And",
    "Match",
    "Operator",
    "ParseFilter",
]

MAX_TERMS = 64
MAX_FIELD_LENGTH = 256
MAX_VALUE_LENGTH = 16 * 1024
_RESERVED = ("id", "width")
# SQLite compares names in a JSON path with the raw text between the quotes of the stored key, escapes included.
_UNREACHABLE = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')
_LONE_SURROGATES = re.compile(r"[\ud800-\udfff]")

ParseFilter = Callable[[Any, str], "Operator"]
"""Reads a filter inside an operand, given its place in the whole ("filter.and[1]")."""


class Operator(ABC):
    """A filter that has been read and checked."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def parse(cls, operand: Any, place: str, parse_filter: ParseFilter) -> "Operator":
        """Read what stands under the operator's name at `place`. Raises InvalidFilterError."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of comparisons."""

    @abstractmethod
    def sql(self) -> Condition:
        """The items that meet it."""


@dataclass(frozen=True, slots=True)
class Match(Operator):
    """One field equals one value; `path`: names from the metadata's root, or one reserved name."""

    name = "match"
    size = 1

    path: tuple[str, ...]
    value: Scalar

    @classmethod
    def parse(cls, operand: Any, place: str, _parse_filter: ParseFilter) -> Operator:
        if not isinstance(operand, dict) or not 1 <= len(operand) <= MAX_TERMS:
            raise InvalidFilterError(
                place, f"must be an object of 1 .. {MAX_TERMS} fields", describe_value(operand)
            )
        terms = tuple(_comparison(field, value, place) for field, value in operand.items())
        return terms[0] if len(terms) == 1 else And(terms)

    def sql(self) -> Condition:
        if self.is_reserved:
            return column_equals(self.path[0], str(self.value))
        return metadata_equals(self.path, self.value)

    @property
    def is_reserved(self) -> bool:
        """Whether the field is the item's own, not one of its metadata."""
        return len(self.path) == 1 and self.path[0] in _RESERVED


@dataclass(frozen=True, slots=True)
class And(Operator):
    """All of `terms` hold."""

    name = "and"

    terms: tuple[Operator, ...]

    @classmethod
    def parse(cls, operand: Any, place: str, parse_filter: ParseFilter) -> Operator:
        if not isinstance(operand, list) or not 1 <= len(operand) <= MAX_TERMS:
            raise InvalidFilterError(place, f"must be a list of 1 .. {MAX_TERMS} filters", describe_value(operand))
        return cls(tuple(parse_filter(part, f"{place}[{i}]") for i, part in enumerate(operand)))

    @property
    def size(self) -> int:
        return sum(term.size for term in self.terms)

    def sql(self) -> Condition:
        return all_of(term.sql() for term in self.terms)


@dataclass(frozen=True, slots=True)
class Exists(Operator):
    """The metadata have a value at `path`, null included."""

    name = "exists"
    size = 1

    path: tuple[str, ...]

    @classmethod
    def parse(cls, operand: Any, place: str, _parse_filter: ParseFilter) -> Operator:
        return cls(_comparison(operand, "", place).path)

    def sql(self) -> Condition:
        return Condition(
            "json_type(metadata, ?) IS NOT NULL", ("$" + "".join(f'."{name}"' for name in self.path),)
        )


OPERATORS: tuple[type[Operator], ...] = (Match, And, Exists)


def _comparison(field: Any, value: Any, place: str) -> Match:
    if not isinstance(field, str) or not 1 <= len(field) <= MAX_FIELD_LENGTH:
        raise InvalidFilterError(
            place, f"a field must have 1 .. {MAX_FIELD_LENGTH} characters", describe_value(field)
        )
    path = tuple(field.split("."))
    if "" in path or _UNREACHABLE.search(field):
        rule = "a field must be names joined by dots, without quotes, backslashes and control characters"
        raise InvalidFilterError(place, rule, f"{field[:80]!r}")
    comparison = Match(path, _scalar(value, f"{place}.{field}"))
    if comparison.is_reserved and not isinstance(value, str):
        raise InvalidFilterError(f"{place}.{field}", "must be a string", describe_value(value))
    return comparison


def _scalar(value: Any, place: str) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > MAX_VALUE_LENGTH or _LONE_SURROGATES.search(value):
            rule = f"must be at most {MAX_VALUE_LENGTH} characters of Unicode text"
            raise InvalidFilterError(place, rule, f"{len(value)} characters")
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    rule = "must be a string, a finite number (integers: 64 bits), true, false or null"
    raise InvalidFilterError(place, rule, describe_value(value))
