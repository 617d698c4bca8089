"""One service for all tests that only ask, with a gallery of known images at known widths."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import Live, running
from tests.tiny_bundle import make_tiny_bundle

WIDTHS = ("0.25", "0.5", "0.75", "1.0")
ITEMS = 12
CALLERS = 24


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of 16×16 images and 16 numbers."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def settings(tiny: Bundle, tmp_path: Path) -> Settings:
    """Settings of a service of the test's own."""
    return Settings(bundle=tiny.folder, data=tmp_path / "data", port=0, threads=2)


@pytest.fixture(scope="session")
def live(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Its items `item-0` … `item-11` are `image(0)` …, at the widths in turn. Leave them as they are."""
    data = tmp_path_factory.mktemp("live")
    settings = Settings(
        bundle=tiny.folder,
        data=data,
        port=0,
        threads=2,
        slo_ms=1000.0,
        max_image_bytes=200_000,
        max_body_bytes=1_000_000,
        max_images=4,
        max_items=40,
    )
    with running(settings) as made:
        for n in range(ITEMS):
            metadata = f'{{"n": {n}, "even": {str(n % 2 == 0).lower()}}}'
            answer = made.put_image(f"/items/item-{n}", draw_image(n), width=WIDTHS[n % 4], metadata=metadata)
            assert answer.status_code == 200, answer.text
        yield made


@pytest.fixture
def weak(settings: Settings) -> Iterator[Live]:
    """A service of the test's own with one worker, whose networks may be replaced; waits may last."""
    with running(settings.model_copy(update={"threads": 1, "slo_ms": 2000.0, "queue_ms": 20_000.0})) as made:
        yield made


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CALLERS) as pool:
        yield pool
