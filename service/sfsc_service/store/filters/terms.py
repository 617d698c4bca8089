"""What a filter is once it has been read: a tree of terms. docs/api.md describes the language and its semantics.

    Equals, Compares, Exists, Contains    about one field of an item
    And, Or, Not                          of other terms

A term holds for an item or it does not; there is no third outcome. `$ne` is `Not` of `$eq`, `$nin` of `$in`.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "And",
    "Compares",
    "Comparison",
    "Contains",
    "Equals",
    "Exists",
    "Field",
    "ItemField",
    "MetadataField",
    "Not",
    "Or",
    "Scalar",
    "Term",
    "identity",
]

Scalar = str | int | float | bool | None
Comparison = Literal["$gt", "$gte", "$lt", "$lte"]


@dataclass(frozen=True, slots=True)
class MetadataField:
    """A field of the metadata; `path`: the names from the root, through objects only."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ItemField:
    """A field of the item itself. `created` is compared as microseconds since 1970, the others as text."""

    name: Literal["id", "width", "created"]


Field = MetadataField | ItemField


@dataclass(frozen=True, slots=True)
class Equals:
    """The field is there, and equals one of `values`."""

    field: Field
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Compares:
    """The field is a number, where `bound` is one, or else text, and compares with it so."""

    field: Field
    comparison: Comparison
    bound: str | int | float


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is there, if only as null."""

    field: MetadataField


@dataclass(frozen=True, slots=True)
class Contains:
    """The field is a list, and one of its elements equals `value`."""

    field: MetadataField
    value: Scalar


@dataclass(frozen=True, slots=True)
class And:
    """All of `terms`, one at least, hold."""

    terms: tuple["Term", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of `terms`, one at least, holds."""

    terms: tuple["Term", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`term` does not hold."""

    term: "Term"


Term = Equals | Compares | Exists | Contains | And | Or | Not


def identity(value: Scalar) -> Hashable:
    """What two values have in common if and only if they are equal in JSON: 1 equals 1.0, but true is not 1.

    >>> identity(1) == identity(1.0), identity(1) == identity(True)
    (True, False)
    """
    return (value,) if isinstance(value, bool) else value
