"""The fields that items' metadata have: every path through objects, with what stands there.

A value of a column is what tells it from others in filters (terms.identity); a list is the set of its elements'
identities, an object is OBJECT, whatever is in it.
"""

from collections.abc import Hashable, Iterator
from typing import Any

import orjson

from sfsc_service.store.filters.terms import identity

__all__ = ["OBJECT", "Found", "MetadataFields", "Path"]

Path = tuple[str, ...]
OBJECT = (dict,)

Found = tuple[list[int], list[Hashable]]
"""The rows that have a field, ascending, and its value in each."""


class MetadataFields:
    """All fields of the metadata that were added, row by row."""

    def __init__(self) -> None:
        self._top = _Level(())

    def add(self, row: int, metadata: str) -> None:
        """Add the metadata of a row, a JSON object as text. Raises ValueError where it is none."""
        found = orjson.loads(metadata)
        if not isinstance(found, dict):
            raise ValueError("metadata must be an object")
        self._top.add(row, found)

    def by_path(self) -> dict[Path, Found]:
        """The fields that were found."""
        return dict(self._top.fields())


class _Level:
    """The fields of the objects that stand at one path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Found] = {}
        self._below: dict[str, _Level] = {}

    def add(self, row: int, found: dict[str, Any]) -> None:
        for name, value in found.items():
            if (field := self._found.get(name)) is None:
                field = self._found[name] = ([], [])
            field[0].append(row)
            if isinstance(value, dict):
                field[1].append(OBJECT)
                if (level := self._below.get(name)) is None:
                    level = self._below[name] = _Level((*self._path, name))
                level.add(row, value)
            elif isinstance(value, list):
                elements = (identity(one) for one in value if not isinstance(one, list | dict))
                field[1].append(frozenset(elements))
            else:
                field[1].append(identity(value))

    def fields(self) -> Iterator[tuple[Path, Found]]:
        for name, found in self._found.items():
            yield (*self._path, name), found
        for level in self._below.values():
            yield from level.fields()
