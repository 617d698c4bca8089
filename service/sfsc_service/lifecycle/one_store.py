"""A place for the store of the collection `default` alone."""

from collections.abc import Callable, Collection

from sfsc_service.store.collections import DEFAULT
from sfsc_service.store.errors import InvalidCollectionError
from sfsc_service.store.protocol import Store

__all__ = ["OneStore"]


class OneStore:
    """Implements collections.Stores; `open_store` takes space, dimension and the compatible spaces."""

    def __init__(self, open_store: Callable[[str, int, Collection[str]], Store]) -> None:
        self._open_store = open_store

    def names(self) -> list[str]:
        return [DEFAULT]

    def open(self, name: str, space: str, dimension: int, compatible_with: Collection[str]) -> Store:
        if name != DEFAULT:
            rule = f"must be {DEFAULT} where the gallery is in Milvus"
            raise InvalidCollectionError("collection", rule, repr(name))
        return self._open_store(space, dimension, compatible_with)

    def remove(self, name: str) -> None:
        raise AssertionError(f"there is no collection {name}")
