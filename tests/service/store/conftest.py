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
from tests.service.store.milvus_galleries import (
    HAS_REAL_SERVER,
    Galleries,
    break_queries,
    break_upserts,
    lite_server,
    need_pymilvus,
    real_server,
)


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
    """`break_adopting`: makes `adopt` fail while inside. `release`: for after a test, its stores being closed.

    `examples`: how often to try what depends on the order of calls; a real server takes half a minute for each.
    `turns`: of a thread that writes while others do. `monotonic`: a change that a read has seen is seen by all
    later ones, though it has not returned yet.
    """

    open: Opener
    break_commits: Breaker
    break_adopting: Callable[[], AbstractContextManager[None]]
    crash: Callable[[Path], Path]
    release: Callable[[], None]
    examples: int
    turns: int
    monotonic: bool


def open_embedded(
    place: Path, *, space: str = SPACE, dimension: int = DIMENSION, compatible_with: Collection[str] = (OLD_SPACE,)
) -> Store:
    return EmbeddedStore(place, space, dimension, compatible_with, seal_rows=40)


def embedded_stores(place: Path) -> Stores:
    return EmbeddedStores(place, partial(EmbeddedStore, seal_rows=40))


# Every implementation is listed here, and is held to the whole contract.
IMPLEMENTATIONS = ("embedded", "milvus-lite", *(["milvus"] if HAS_REAL_SERVER else []))


@pytest.fixture(params=IMPLEMENTATIONS, scope="session")
def implementation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Implementation]:
    if request.param == "embedded":
        broken = partial(break_sqlite_commits, reaches_disk=False)
        yield Implementation(open_embedded, break_sqlite_commits, broken, copy_of, lambda: None, 25, 40, True)
        return
    need_pymilvus()
    lite = request.param == "milvus-lite"
    start, examples = (lite_server, 10) if lite else (real_server, 2)
    with start(tmp_path_factory.mktemp("milvus")) as address:
        galleries = Galleries(address)
        yield Implementation(
            galleries.open, break_upserts, break_queries, lambda place: place, galleries.release, examples, 8, lite
        )
        galleries.drop()


@pytest.fixture
def opener(implementation: Implementation) -> Iterator[Opener]:
    yield implementation.open
    implementation.release()


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
