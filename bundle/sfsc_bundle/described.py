"""How a message shows the value that it refuses."""

from typing import Any

import numpy as np

__all__ = ["describe_value"]

_CHARACTERS = 60
_MEMBERS = 8
_DEPTH = 2
_BITS = 128  # Python refuses to write integers of more than 4,300 digits


def describe_value(value: object) -> str:
    """The value itself where it is short, else its kind and size.

    Containers are entered to a small depth only: they may be nested without end.

    >>> describe_value({"a": [1, 2]}), describe_value([0.5] * 100), describe_value("x" * 100)[:5]
    ("{'a': [1, 2]}", 'a list of 100', "'xxxx")
    >>> describe_value([[[[0]]]]), describe_value(None), describe_value(0.5)
    ('[[[[…]]]]', 'null', '0.5')
    """
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str() | bytes():
            return repr(value[:_CHARACTERS]) + ("…" if len(value) > _CHARACTERS else "")
        case int() if value.bit_length() > _BITS:
            return f"an integer of {value.bit_length()} bits"
        case int() | float():
            return str(value)
        case dict() | list():
            text = _members(value, _DEPTH) if len(value) <= _MEMBERS else ""
            if 0 < len(text) <= _CHARACTERS:
                return text
            return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
        case np.ndarray():
            return f"an array of {value.dtype} {list(value.shape)}"
        case _:
            return type(value).__name__


def _members(value: dict[Any, Any] | list[Any], depth: int) -> str:
    """What is in a container, and in containers inside of it down to `depth`."""
    ends = "{}" if isinstance(value, dict) else "[]"
    if value and (depth < 0 or len(value) > _MEMBERS):
        return ends[0] + "…" + ends[1]
    parts = [
        _members(part, depth - 1) if isinstance(part, dict | list) else describe_value(part)
        for part in (value.values() if isinstance(value, dict) else value)
    ]
    if isinstance(value, dict):
        parts = [f"{describe_value(key)}: {part}" for key, part in zip(value, parts, strict=True)]
    return ends[0] + ", ".join(parts) + ends[1]
