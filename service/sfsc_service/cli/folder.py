"""What the commands on a data folder have in common: that nobody else has it, and errors in one sentence."""

import importlib.util
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from sfsc_bundle.extras import installing
from sfsc_service.errors import StartError
from sfsc_service.store.embedded.check import open_reader
from sfsc_service.store.embedded.lock import FolderLock
from sfsc_service.store.embedded.opening import DATABASE
from sfsc_service.store.embedded.sqlite.schema import DatabaseError
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.stores import collection_folder, collection_names
from sfsc_service.store.errors import DatabaseLostError, FolderMismatchError, StoreFailedError, StoreLockedError

__all__ = ["check_pyarrow", "in_use", "locked", "opened", "storage_errors"]


@contextmanager
def locked(data: Path) -> Iterator[dict[str, Path]]:
    """Keep every other process from opening the stores of a data folder; the folders of its collections.

    Raises:
        StoreLockedError: one has it open.
        DatabaseLostError: there is no store.
    """
    folders = {name: collection_folder(data, name) for name in collection_names(data)}
    with ExitStack() as locks:
        for folder in folders.values():
            if not (folder / DATABASE).is_file():
                raise DatabaseLostError(f"folder: {folder} must hold a gallery; found no {DATABASE} in it")
            with _told_of_the_service():
                lock = FolderLock(folder)
                locks.callback(lock.release)
                lock.hold(folder / DATABASE)
        yield folders


@contextmanager
def in_use(data: Path) -> Iterator[dict[str, Path]]:
    """The folders of the collections in a data folder that others may have open. Raises OSError."""
    yield {name: collection_folder(data, name) for name in collection_names(data)}


@contextmanager
def _told_of_the_service() -> Iterator[None]:
    try:
        yield
    except StoreLockedError as error:
        hint = "give the address of the running service instead, as in http://127.0.0.1:8000"
        raise StoreLockedError(f"{error}; {hint}") from error


@contextmanager
def opened(folder: Path, further_spaces: Collection[str] = ()) -> Iterator[EmbeddedStore]:
    """The store of a folder, for vectors of the spaces that it has, and of `further_spaces`; closed at the end.

    Raises:
        FolderMismatchError: the folder has no space of `further_spaces`, so that its vectors cannot be compared.
        StoreError: it cannot be opened.
    """
    with closing(open_reader(folder)) as reader:
        (space, *others), dimension = reader.spaces(), reader.meta()["dimension"]
    if further_spaces and not {space, *others} & set(further_spaces):
        rule = f"must hold vectors of the space {' or '.join(sorted(further_spaces))}"
        raise FolderMismatchError(f"folder: {folder} {rule}; found {', '.join([space, *others])}")
    with closing(EmbeddedStore(folder, space, dimension, {*others, *further_spaces})) as store:
        yield store


def check_pyarrow() -> None:
    """Raises StartError where Parquet files cannot be read and written."""
    if importlib.util.find_spec("pyarrow") is None:
        raise StartError(f"Parquet files need the extra parquet: {installing('parquet')}")


@contextmanager
def storage_errors() -> Iterator[None]:
    """Let what disk and database raise be StoreFailedError, with the file's path."""
    try:
        yield
    except (DatabaseError, OSError) as error:
        raise StoreFailedError(f"storage failure: {type(error).__name__}: {error}") from error
