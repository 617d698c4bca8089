from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Store
from tests.service.store.making import DIMENSION, OLD_SPACE, SPACE

Opener = Callable[[Path], Store]

# Every implementation is listed here and in COMMIT_BREAKERS, and is held to the whole contract.
IMPLEMENTATIONS: dict[str, Opener] = {
    "embedded": partial(
        EmbeddedStore, space=SPACE, dimension=DIMENSION, compatible_with=[OLD_SPACE], seal_rows=40
    ),
}


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


COMMIT_BREAKERS: dict[str, Breaker] = {"embedded": break_sqlite_commits}


@pytest.fixture(params=IMPLEMENTATIONS, scope="session")
def opener(request: pytest.FixtureRequest) -> Opener:
    """Opens the store at a place; opening the same place again, after `close`, finds what was there."""
    return IMPLEMENTATIONS[request.param]


@pytest.fixture
def break_commits(request: pytest.FixtureRequest) -> Breaker:
    """Of the implementation that `opener` opens."""
    name: str = request.node.callspec.params["opener"]
    return COMMIT_BREAKERS[name]


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
