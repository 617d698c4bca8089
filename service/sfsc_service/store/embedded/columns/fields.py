"""The fields that an item's metadata have: every path through objects, with what stands there.

A value of a column is what tells it from others in filters (terms.identity); a list is the set of its elements'
identities, an object is OBJECT, whatever is in it.
"""

from collections.abc import Hashable, Iterator
from typing import Any

import orjson

from sfsc_service.store.filters.terms import identity

__all__ = ["OBJECT", "Path", "fields_of"]

Path = tuple[str, ...]
OBJECT = (dict,)


def fields_of(metadata: str) -> Iterator[tuple[Path, Hashable]]:
    """All fields of the metadata, a JSON object as text. Raises ValueError where it is none."""
    found = orjson.loads(metadata)
    if not isinstance(found, dict):
        raise ValueError("metadata must be an object")
    return _fields(found, ())


def _fields(found: dict[str, Any], above: Path) -> Iterator[tuple[Path, Hashable]]:
    for name, value in found.items():
        path = (*above, name)
        if isinstance(value, dict):
            yield path, OBJECT
            yield from _fields(value, path)
        elif isinstance(value, list):
            yield path, frozenset(identity(one) for one in value if not isinstance(one, list | dict))
        else:
            yield path, identity(value)
