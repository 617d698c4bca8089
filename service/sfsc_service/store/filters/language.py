"""Reading a filter: JSON becomes a tree of operators, within fixed limits; operators.py has the language."""

from functools import partial
from typing import Any

from sfsc_bundle.described import describe_value
from sfsc_service.store.errors import InvalidFilterError
from sfsc_service.store.filters.operators import MAX_TERMS, OPERATORS, Operator

__all__ = ["MAX_DEPTH", "parse"]

MAX_DEPTH = 8
_BY_NAME = {operator.name: operator for operator in OPERATORS}


def parse(document: Any) -> Operator:
    """Check a filter.

    Raises:
        InvalidFilterError: it is not of the language, nested too deep, or has more than MAX_TERMS comparisons.
    """
    operator = _parse(document, "filter", depth=1)
    if operator.size > MAX_TERMS:
        raise InvalidFilterError("filter", f"must hold at most {MAX_TERMS} terms", f"{operator.size}")
    return operator


def _parse(document: Any, place: str, depth: int) -> Operator:
    if depth > MAX_DEPTH:
        raise InvalidFilterError("filter", f"must be nested at most {MAX_DEPTH} deep", f"more at {place[:200]}")
    if not isinstance(document, dict) or len(document) != 1:
        raise InvalidFilterError(place, "must be an object with exactly one operator", describe_value(document))
    ((name, operand),) = document.items()
    if (operator := _BY_NAME.get(name)) is None:
        raise InvalidFilterError(
            place, f"operator must be one of {', '.join(_BY_NAME)}", f"{str(name)[:40]!r}, which is not supported"
        )
    return operator.parse(operand, f"{place}.{name}", partial(_parse, depth=depth + 1))
