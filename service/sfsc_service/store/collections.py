"""Several galleries of one bundle: each collection has a store of its own, which knows nothing of the others.

So nothing can pass from one collection to another, and each can be copied, checked and removed by itself. What is
asked of a place for stores is little: a store implements protocol.py and need not know that there are others.
"""

import re
from collections.abc import Collection
from typing import Protocol

from sfsc_service.store.errors import InvalidCollectionError
from sfsc_service.store.protocol import Store

__all__ = ["DEFAULT", "Stores", "check_collection_name"]

DEFAULT = "default"
"""The collection that is always there, and is meant where none is named."""

_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_collection_name(name: str) -> None:
    """Refuse what cannot be the name of a collection. Raises InvalidCollectionError."""
    if not _NAME.fullmatch(name):
        rule = "must be 1 to 64 letters, digits, - and _, the first a letter or a digit"
        raise InvalidCollectionError("collection", rule, f"{name[:80]!r}")


class Stores(Protocol):
    """Where the stores of all collections are. Every method blocks and is called by one thread at a time.

    Names have passed `check_collection_name`. DEFAULT is opened before anything else is asked, and never removed.
    """

    def names(self) -> list[str]:
        """The names of all stores that there are. Raises StoreFailedError."""

    def open(self, name: str, space: str, dimension: int, compatible_with: Collection[str]) -> Store:
        """Open a store, which is made where there is none, and then is there after a crash, too.

        Raises OpenRefusedError or StoreFailedError; a store that there was not is not made then.
        """

    def remove(self, name: str) -> None:
        """Delete a store, which is closed, with all that it holds. After a crash it is there as a whole or gone.

        Raises StoreFailedError: it is still there.
        """
