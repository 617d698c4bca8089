"""Fields and values of a filter as they stand in its JSON document, checked one by one."""

import math
import re
from datetime import UTC, datetime
from typing import Any, assert_never

from sfsc_bundle.described import describe_value
from sfsc_bundle.widths import canonical_width
from sfsc_service.store.errors import InvalidFilterError
from sfsc_service.store.filters.terms import Field, MetadataField, Scalar

__all__ = [
    "MAX_FIELD_LENGTH",
    "MAX_VALUE_LENGTH",
    "check_scalar",
    "check_size",
    "read_bound",
    "read_field",
    "read_value",
]

MAX_FIELD_LENGTH = 256
MAX_VALUE_LENGTH = 16 * 1024
# SQLite compares names in a JSON path with the raw text between the quotes of the stored key, escapes included.
_UNREACHABLE = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')
_LONE_SURROGATES = re.compile(r"[\ud800-\udfff]")
_UNESCAPED_DOT = re.compile(r"(?<!\\)\.")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_field(name: Any, place: str) -> MetadataField:
    r"""The field of the metadata that `name` stands for: names joined by dots; a dot in a name is written `\.`.

    A `$` that a field begins with is written `\$`.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_FIELD_LENGTH:
        rule = f"a field must have 1 .. {MAX_FIELD_LENGTH} characters"
        raise InvalidFilterError(place, rule, describe_value(name))
    unescaped = name[1:] if name.startswith("\\$") else name
    path = tuple(part.replace("\\.", ".") for part in _UNESCAPED_DOT.split(unescaped))
    if "" in path or any(map(_UNREACHABLE.search, path)):
        rule = (
            "a field must be names joined by dots, without quotes, control characters and backslashes "
            r"other than in \. and a leading \$"
        )
        raise InvalidFilterError(place, rule, f"{name[:80]!r}")
    return MetadataField(path)


def read_value(field: Field, value: Any, place: str) -> Scalar:
    """A value that the field may equal."""
    if isinstance(field, MetadataField):
        return check_scalar(value, place)
    match field.name:
        case "id":
            return _text(value, place)
        case "width":
            return _width(value, place)
        case "created":
            return _time(value, place)
        case _:
            assert_never(field.name)


def read_bound(field: Field, value: Any, place: str) -> str | int | float:
    """A value that the field may be above or below."""
    checked = read_value(field, value, place)
    if checked is None or isinstance(checked, bool):
        raise InvalidFilterError(place, "must be a number or a string", describe_value(value))
    return checked


def check_scalar(value: Any, place: str) -> Scalar:
    """A value of JSON that is neither a list nor an object."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, place)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    rule = "must be a string, a finite number (integers: 64 bits), true, false or null"
    if isinstance(value, list):
        rule += "; $in compares with each value of a list, $contains with each element of the field"
    raise InvalidFilterError(place, rule, describe_value(value))


def check_size(
    operand: Any, kind: type[list[Any]] | type[dict[Any, Any]], place: str, what: str, most: int
) -> Any:
    """The operand, if it is a container of this kind with 1 .. `most` members; `what` describes it, with a gap."""
    if not isinstance(operand, kind) or not 1 <= len(operand) <= most:
        raise InvalidFilterError(place, f"must be {what.format(most)}", describe_value(operand))
    return operand


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise InvalidFilterError(place, "must be a string", describe_value(value))
    if len(value) > MAX_VALUE_LENGTH or _LONE_SURROGATES.search(value):
        rule = f"must be at most {MAX_VALUE_LENGTH} characters of Unicode text"
        raise InvalidFilterError(place, rule, f"{len(value)} characters")
    return value


def _width(value: Any, place: str) -> str:
    """The name of a width. Names of widths ascend as the widths do."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidFilterError(place, "must be a width", describe_value(value))
    try:
        return canonical_width(value)
    except ValueError:
        # Another space may name its widths as it likes.
        return _text(value, place)


def _time(value: Any, place: str) -> int:
    """Microseconds since 1970; a time without a zone is UTC."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        rule = "must be a time such as 2026-11-26T12:00:00Z"
        raise InvalidFilterError(place, rule, describe_value(value)) from None
    since = (found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
