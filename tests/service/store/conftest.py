from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Store
from tests.service.store.making import DIMENSION, OLD_SPACE, SPACE

Opener = Callable[[Path], Store]

# Every implementation stands here once, and is held to the whole contract.
IMPLEMENTATIONS: dict[str, Opener] = {
    "embedded": partial(
        EmbeddedStore, space=SPACE, dimension=DIMENSION, compatible_with=[OLD_SPACE], snapshot_changes=40
    ),
}


@pytest.fixture(params=IMPLEMENTATIONS, scope="session")
def opener(request: pytest.FixtureRequest) -> Opener:
    """Opens the store at a place; opening the same place again, after `close`, finds what was there."""
    return IMPLEMENTATIONS[request.param]


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
