"""The embedded stores of all collections in one data folder.

the folder itself       the collection `default`
collections/NAME        every other one, each a data folder like any other
collections/.new-…      one that is being made: it gets its name once it is whole and durable
collections/.removed-…  what is left of one that was removed

The next start deletes what is left of the last two.
"""

import logging
import shutil
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

from sfsc_bundle.atomic_file import sync
from sfsc_service.store.collections import DEFAULT, check_collection_name
from sfsc_service.store.embedded.check import delete_view
from sfsc_service.store.errors import InvalidCollectionError, StoreFailedError
from sfsc_service.store.protocol import Store

__all__ = ["COLLECTIONS", "EmbeddedStores", "collection_folder", "collection_names"]

COLLECTIONS = "collections"
_NEW, _REMOVED = ".new-", ".removed-"

_log = logging.getLogger(__name__)


def collection_folder(folder: Path, name: str) -> Path:
    """The data folder of a collection. Raises InvalidCollectionError."""
    check_collection_name(name)
    return folder if name == DEFAULT else folder / COLLECTIONS / name


def collection_names(folder: Path) -> list[str]:
    """The collections in a data folder, `default` first. Raises OSError."""
    collections = folder / COLLECTIONS
    found = sorted(path.name for path in collections.iterdir() if path.is_dir()) if collections.exists() else []
    return [DEFAULT, *(name for name in found if name != DEFAULT and _is_name(name))]


class EmbeddedStores:
    """Implements collections.Stores; `open_store` opens the store of a data folder, as EmbeddedStore does."""

    def __init__(self, folder: Path, open_store: Callable[[Path, str, int, Collection[str]], Store]) -> None:
        self._folder, self._open_store = folder, open_store

    def names(self) -> list[str]:
        try:
            found = collection_names(self._folder)
            others = {path.name for path in (self._folder / COLLECTIONS).glob("[!.]*")}.difference(found[1:])
        except OSError as error:
            raise StoreFailedError(f"the collections cannot be listed: {error}") from error
        for name in sorted(others):
            _log.warning("%s/%s is left alone: it is no folder with the name of a collection", COLLECTIONS, name)
        return found

    def open(self, name: str, space: str, dimension: int, compatible_with: Collection[str]) -> Store:
        folder = collection_folder(self._folder, name)
        if name == DEFAULT:
            store = self._open_store(folder, space, dimension, compatible_with)
            self._delete_leftovers()
            delete_view(folder)
            return store
        new = not folder.exists()
        try:
            if new:
                self._make(folder, space, dimension, compatible_with)
            store = self._open_store(folder, space, dimension, compatible_with)
            delete_view(folder)
            return store
        except BaseException:
            if new:
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _make(self, folder: Path, space: str, dimension: int, compatible_with: Collection[str]) -> None:
        new = folder.with_name(f"{_NEW}{uuid.uuid4().hex}")
        try:
            self._open_store(new, space, dimension, compatible_with).close()
            new.rename(folder)
            sync([self._folder, folder.parent])
        except OSError as error:
            raise StoreFailedError(f"the collection cannot be made: {error.strerror}") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def remove(self, name: str) -> None:
        removed = self._folder / COLLECTIONS / f"{_REMOVED}{uuid.uuid4().hex}"
        try:
            collection_folder(self._folder, name).rename(removed)
            sync([removed.parent])
        except OSError as error:
            raise StoreFailedError(f"the collection {name} cannot be deleted: {error.strerror}") from error
        _delete(removed)

    def _delete_leftovers(self) -> None:
        for beginning in (_NEW, _REMOVED):
            for path in (self._folder / COLLECTIONS).glob(f"{beginning}*"):
                _delete(path)


def _delete(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        _log.warning("what is left of a collection stays in %s until the next start: %s", folder, error)


def _is_name(name: str) -> bool:
    try:
        check_collection_name(name)
    except InvalidCollectionError:
        return False
    return True
