import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from sfsc_service.store.collections import Stores
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.stores import EmbeddedStores
from sfsc_service.store.protocol import Store
from tests.service.store.making import DIMENSION, OLD_SPACE, SPACE


class Opener(Protocol):
    """Opens the store at a place; opening the same place again, after `close`, finds what was there."""

    def __call__(
        self,
        place: Path,
        *,
        space: str = SPACE,
        dimension: int = DIMENSION,
        compatible_with: Collection[str] = (OLD_SPACE,),
    ) -> Store: ...


class Breaker(Protocol):
    """Makes commits fail while inside; `reaches_disk`: though they failed, a crash finds the changes."""

    def __call__(self, *, reaches_disk: bool) -> AbstractContextManager[None]: ...


@contextmanager
def break_sqlite_commits(*, reaches_disk: bool) -> Iterator[None]:
    def broken(writer: DatabaseWriter) -> None:
        if reaches_disk:
            writer._connection.execute("COMMIT")
        raise OSError(5, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseWriter, "commit", broken)
        yield


def copy_of(place: Path) -> Path:
    """Another place with what a crash would leave of the store at this one, which is open."""
    return Path(shutil.copytree(place, place.with_name("after-a-crash")))


@dataclass(frozen=True)
class Implementation:
    """`stores`: where the stores of several collections are; opening the same place again finds what was there."""

    open: Opener
    stores: Callable[[Path], Stores]
    break_commits: Breaker
    crash: Callable[[Path], Path]


def open_embedded(
    place: Path, *, space: str = SPACE, dimension: int = DIMENSION, compatible_with: Collection[str] = (OLD_SPACE,)
) -> Store:
    return EmbeddedStore(place, space, dimension, compatible_with, seal_rows=40)


def embedded_stores(place: Path) -> Stores:
    return EmbeddedStores(place, partial(EmbeddedStore, seal_rows=40))


# Every implementation is listed here, and is held to the whole contract.
IMPLEMENTATIONS = {"embedded": Implementation(open_embedded, embedded_stores, break_sqlite_commits, copy_of)}


@pytest.fixture(params=IMPLEMENTATIONS, scope="session")
def implementation(request: pytest.FixtureRequest) -> Implementation:
    return IMPLEMENTATIONS[request.param]


@pytest.fixture(scope="session")
def opener(implementation: Implementation) -> Opener:
    return implementation.open


@pytest.fixture
def break_commits(implementation: Implementation) -> Breaker:
    return implementation.break_commits


@pytest.fixture
def store(opener: Opener, tmp_path: Path) -> Iterator[Store]:
    opened = opener(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """For what only the embedded store promises."""
    opened = EmbeddedStore(tmp_path / "store", SPACE, DIMENSION)
    yield opened
    opened.close()
