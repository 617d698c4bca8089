"""JSON Merge Patch (RFC 7396)."""

from typing import Any

__all__ = ["merged"]


def merged(target: Any, patch: Any) -> Any:
    """What a patch makes of a JSON value, which stays as it is.

    >>> merged({"colour": "red", "place": {"city": "Bern", "floor": 2}}, {"colour": None, "place": {"floor": 3}})
    {'place': {'city': 'Bern', 'floor': 3}}
    """
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
