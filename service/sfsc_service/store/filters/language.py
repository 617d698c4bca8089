"""Reading a filter: a JSON document is checked, within fixed limits, and becomes a tree of terms."""

from typing import Any, assert_never

from sfsc_bundle.described import describe_value
from sfsc_service.store.errors import InvalidFilterError
from sfsc_service.store.filters.operands import (
    check_scalar,
    check_size,
    read_bound,
    read_field,
    read_value,
)
from sfsc_service.store.filters.terms import (
    And,
    Compares,
    Contains,
    Equals,
    Exists,
    Field,
    ItemField,
    MetadataField,
    Not,
    Or,
    Term,
)

__all__ = ["MAX_DEPTH", "MAX_TERMS", "MAX_VALUES", "parse"]

MAX_DEPTH = 8
MAX_TERMS = 64
MAX_VALUES = 1_000
_MAX_PARTS = 4_096
"""More members and entries than a filter within the other bounds can have."""

_RESERVED = {"$id": ItemField("id"), "$width": ItemField("width"), "$created": ItemField("created")}
_JOINING = ("$and", "$or", "$not", *_RESERVED)
_OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin")
_METADATA_OPERATORS = (*_OPERATORS, "$exists", "$contains", "$not")


def parse(document: Any) -> Term:
    """Check a filter.

    Raises:
        InvalidFilterError: it is not of the language, nested more than MAX_DEPTH deep, or has more than MAX_TERMS
            comparisons or MAX_VALUES values.
    """
    _check_parts(document)
    term = _filter(document, "filter", 1)
    comparisons, values = _size(term)
    if comparisons > MAX_TERMS:
        raise InvalidFilterError("filter", f"must have at most {MAX_TERMS} comparisons", f"{comparisons}")
    if values > MAX_VALUES:
        raise InvalidFilterError("filter", f"must have at most {MAX_VALUES} values", f"{values}")
    return term


def _check_parts(document: Any) -> None:
    """Refuse what is far too large before terms are made of it, which takes long."""
    found, waiting = 0, [document]
    while waiting:
        part = waiting.pop()
        inside = list(part.values()) if isinstance(part, dict) else part if isinstance(part, list) else []
        found += len(inside)
        if found > _MAX_PARTS:
            rule = f"must have at most {MAX_TERMS} comparisons and {MAX_VALUES} values"
            raise InvalidFilterError("filter", rule, f"more than {_MAX_PARTS} members and entries")
        waiting += inside


def _filter(document: Any, place: str, depth: int) -> Term:
    _check_depth(place, depth)
    members = check_size(document, dict, place, "an object of 1 .. {} fields and operators", MAX_TERMS)
    return _all_of([_member(name, operand, place, depth) for name, operand in members.items()])


def _member(name: Any, operand: Any, place: str, depth: int) -> Term:
    inside = f"{place}.{name}"
    match name:
        case "$and":
            return And(_filters(operand, inside, depth))
        case "$or":
            return Or(_filters(operand, inside, depth))
        case "$not":
            return Not(_filter(operand, inside, depth + 1))
        case str() if name in _RESERVED:
            return _condition(_RESERVED[name], operand, inside, depth)
        case str() if name.startswith("$"):
            rule = f"a name with $ must be one of {', '.join(_JOINING)}; \\$ begins a field of the metadata"
            raise InvalidFilterError(place, rule, repr(name[:40]))
        case _:
            return _condition(read_field(name, place), operand, inside, depth)


def _filters(operand: Any, place: str, depth: int) -> tuple[Term, ...]:
    parts = check_size(operand, list, place, "a list of 1 .. {} filters", MAX_TERMS)
    return tuple(_filter(part, f"{place}[{i}]", depth + 1) for i, part in enumerate(parts))


def _condition(field: Field, operand: Any, place: str, depth: int) -> Term:
    """What stands behind a field: a value, or an object of operators, all of which hold."""
    if not isinstance(operand, dict):
        return Equals(field, (read_value(field, operand, place),))
    _check_depth(place, depth)
    members = check_size(operand, dict, place, "a value or an object of 1 .. {} operators", MAX_TERMS)
    return _all_of([_operator(field, name, value, place, depth) for name, value in members.items()])


def _operator(field: Field, name: Any, operand: Any, parent: str, depth: int) -> Term:
    place = f"{parent}.{name}"
    match name, field:
        case "$eq", _:
            return Equals(field, (read_value(field, operand, place),))
        case "$ne", _:
            return Not(Equals(field, (read_value(field, operand, place),)))
        case "$in", _:
            return Equals(field, _values(field, operand, place))
        case "$nin", _:
            return Not(Equals(field, _values(field, operand, place)))
        case ("$gt" | "$gte" | "$lt" | "$lte") as comparison, _:
            return Compares(field, comparison, read_bound(field, operand, place))
        case "$exists", MetadataField():
            if not isinstance(operand, bool):
                raise InvalidFilterError(place, "must be true or false", describe_value(operand))
            return Exists(field) if operand else Not(Exists(field))
        case "$contains", MetadataField():
            return Contains(field, check_scalar(operand, place))
        case "$not", MetadataField():
            if not isinstance(operand, dict):
                raise InvalidFilterError(place, "must be an object of operators", describe_value(operand))
            return Not(_condition(field, operand, place, depth + 1))
        case _:
            allowed = _METADATA_OPERATORS if isinstance(field, MetadataField) else _OPERATORS
            found = repr(name[:40]) if isinstance(name, str) else describe_value(name)
            raise InvalidFilterError(parent, f"operator must be one of {', '.join(allowed)}", found)


def _values(field: Field, operand: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(operand, list) or len(operand) > MAX_VALUES:
        raise InvalidFilterError(place, f"must be a list of at most {MAX_VALUES} values", describe_value(operand))
    return tuple(read_value(field, value, f"{place}[{i}]") for i, value in enumerate(operand))


def _all_of(terms: list[Term]) -> Term:
    return terms[0] if len(terms) == 1 else And(tuple(terms))


def _check_depth(place: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidFilterError("filter", f"must be nested at most {MAX_DEPTH} deep", f"more at {place[:200]}")


def _size(term: Term) -> tuple[int, int]:
    """The number of comparisons, and that of the values in them."""
    match term:
        case Equals():
            return 1, len(term.values)
        case Compares() | Exists() | Contains():
            return 1, 1
        case Not():
            return _size(term.term)
        case And() | Or():
            comparisons, values = zip(*map(_size, term.terms), strict=True)
            return sum(comparisons), sum(values)
        case _:
            assert_never(term)
