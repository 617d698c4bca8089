"""The open stores of all collections, and what is asked of them together.

All are opened at the start, for the same spaces: one that does not fit, or is damaged, is told then. One that was
removed may still be in the hands of a call; such a call raises StoreClosedError and has changed nothing.
"""

import logging
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from sfsc_service.store.collections import DEFAULT, Stores, check_collection_name
from sfsc_service.store.errors import (
    LimitExceededError,
    OpenRefusedError,
    StoreClosedError,
    StoreError,
    StoreFailedError,
)
from sfsc_service.store.fault import StoreFault
from sfsc_service.store.protocol import Store, StoreSizes

__all__ = ["OpenStores"]

_log = logging.getLogger(__name__)


class _Fit(NamedTuple):
    """What every store is opened for; `adopt` changes it."""

    space: str
    dimension: int
    compatible_with: Collection[str]


class OpenStores:
    """Opens every store that `stores` has; methods may be called from any thread.

    Raises:
        StoreError: as opening a store does; none is open then.
    """

    def __init__(self, stores: Stores, space: str, dimension: int, compatible_with: Collection[str]) -> None:
        self._stores = stores
        self._fit = _Fit(space, dimension, compatible_with)
        self._changing = threading.Lock()
        self._closed = False
        self._open: dict[str, Store] = {}
        """Replaced and never changed, so that reading it needs no lock."""
        with ExitStack() as close_on_error:
            close_on_error.callback(self.close)
            self._open_one(DEFAULT)
            for name in sorted(set(stores.names()) - {DEFAULT}):
                with _named(name):
                    self._open_one(name)
            close_on_error.pop_all()

    @property
    def by_name(self) -> Mapping[str, Store]:
        """Those that are open now. Never waits."""
        return MappingProxyType(self._open)

    @property
    def default(self) -> Store:
        """The store of the collection that is always there."""
        return self._open[DEFAULT]

    def create(self, name: str, most: int) -> bool:
        """Open a new store, unless there is one of this name; whether it is new. `most`: so many may be open.

        Raises InvalidCollectionError, LimitExceededError, StoreClosedError, and as opening a store does.
        """
        check_collection_name(name)
        with self._changing:
            if self._closed:
                raise StoreClosedError("the store is closed")
            if name in self._open:
                return False
            if len(self._open) >= most:
                rule = f"at most {most} collections may exist, the collection {DEFAULT} among them"
                raise LimitExceededError("collection", rule, f"{len(self._open)}")
            self._open_one(name)
        return True

    def remove(self, name: str) -> None:
        """Finish the calls under way in a store, close it and delete all that it holds.

        Raises StoreFailedError: it could not be deleted. It is closed until `create` or a start opens it.
        """
        with self._changing:
            rest = dict(self._open)
            store = rest.pop(name)
            self._open = rest
            store.close()
            self._stores.remove(name)

    def adopt(self, space: str, dimension: int, compatible_with: Collection[str]) -> None:
        """Expect new vectors of this space in all stores, or in none. Raises as Store.adopt."""
        new = _Fit(space, dimension, compatible_with)
        with self._changing, ExitStack() as undo:
            for store in self._open.values():
                store.adopt(*new)
                undo.callback(_adopt_again, store, new, self._fit)
            undo.pop_all()
            self._fit = new

    @property
    def alive(self) -> bool:
        """Whether every store can still be changed. Never waits."""
        return all(store.alive for store in self._open.values())

    @property
    def faults(self) -> list[str]:
        """What is damaged and not served in any of them, in sentences. Never waits."""
        return [
            sentence if name == DEFAULT else f"collection {name}: {sentence}"
            for name, store in self._open.items()
            for sentence in store.faults
        ]

    def fault(self) -> StoreFault | None:
        """The first fault that is found, having looked at every store. Not to be called twice at a time."""
        first = None
        for name, store in self._open.items():
            with suppress(StoreClosedError):
                found = store.fault()
                if found is not None and first is None:
                    detail = found.detail if name == DEFAULT else f"collection {name}: {found.detail}"
                    first = replace(found, detail=detail)
        return first

    def sizes(self) -> StoreSizes:
        """How much there is in all stores together. Raises StoreError."""
        total = self.default.sizes()
        for name, store in self._open.items():
            if name != DEFAULT:
                with suppress(StoreClosedError):
                    total = _sum(total, store.sizes())
        return total

    def compositions(self) -> dict[str, dict[str, int]]:
        """The number of items per width, by collection. Never waits."""
        found = {}
        for name, store in self._open.items():
            with suppress(StoreClosedError):
                found[name] = store.composition()
        return found

    def close(self) -> None:
        """Finish the calls under way in all stores and close them; further calls of `close` do nothing."""
        with self._changing:
            self._closed = True
            # The default one last: it keeps other processes from the place of all.
            for store in sorted(self._open.values(), key=lambda store: store is self._open[DEFAULT]):
                store.close()

    def _open_one(self, name: str) -> None:
        self._open = {**self._open, name: self._stores.open(name, *self._fit)}


def _adopt_again(store: Store, refused: _Fit, before: _Fit) -> None:
    """Undo an `adopt`. The store takes a space only where the present one may stay, hence two steps."""
    try:
        store.adopt(before.space, before.dimension, {*before.compatible_with, refused.space})
        store.adopt(*before)
    except StoreError:
        _log.exception("a store cannot go back to the space %s; restart the service", before.space)


def _sum(one: StoreSizes, other: StoreSizes) -> StoreSizes:
    return StoreSizes(
        log_bytes=one.log_bytes + other.log_bytes,
        live_rows=one.live_rows + other.live_rows,
        dead_rows=one.dead_rows + other.dead_rows,
        vector_files=one.vector_files + other.vector_files,
        free_bytes=min(one.free_bytes, other.free_bytes),
    )


@contextmanager
def _named(collection: str) -> Iterator[None]:
    """Say in an error which collection cannot be opened."""
    try:
        yield
    except (OpenRefusedError, StoreFailedError) as error:
        raise type(error)(f"collection {collection}: {error}") from error
