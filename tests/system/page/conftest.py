"""A Chromium, a service with a small gallery, and a tab that must end without a complaint."""

from collections.abc import Iterator

import pytest

pytest.importorskip("playwright", reason="the dev extra is not installed")

from playwright.sync_api import Browser, expect

from benchmarks.chromium import chromium, executable
from sfsc_service.settings import Settings
from tests.service.live import Live, running
from tests.system.page.gallery_page import TIMEOUT_MS, GalleryPage, fill, write_listing
from tests.tiny_bundle import make_tiny_bundle

expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if executable() is None:
        pytest.skip("no Chromium; tests/system/browser.sh says how to get one")
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("page")
    bundle = make_tiny_bundle(folder / "tiny")
    # A target that a busy machine keeps too, so that load takes no width away.
    return Settings(
        bundle=bundle.folder,
        data=folder / "data",
        samples=write_listing(folder),
        port=0,
        threads=1,
        slo_ms=5000,
    )


@pytest.fixture(scope="session")
def service(settings: Settings) -> Iterator[Live]:
    """A service with a gallery. Leave its items as they are."""
    with running(settings) as live:
        fill(live)
        yield live


@pytest.fixture
def writable(settings: Settings, tmp_path: pytest.TempPathFactory) -> Iterator[Live]:
    """A service with the same gallery, for one test to change."""
    with running(settings.model_copy(update={"data": tmp_path / "data"})) as live:
        fill(live)
        yield live


def opened(browser: Browser, live: Live, **options: object) -> Iterator[GalleryPage]:
    with browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options)) as context:
        page = GalleryPage(context.new_page(), live)
        yield page
        page.page.unroute_all(behavior="wait")  # an answer that a test changes may be under way
    assert page.told == []


@pytest.fixture
def tab(browser: Browser, service: Live) -> Iterator[GalleryPage]:
    """A tab that must end without an error, a warning, or a request to anywhere else."""
    yield from opened(browser, service)


@pytest.fixture
def own(browser: Browser, writable: Live) -> Iterator[GalleryPage]:
    """The same, of a service whose gallery the test may change."""
    yield from opened(browser, writable)


@pytest.fixture
def phone(browser: Browser, service: Live) -> Iterator[GalleryPage]:
    """A tab 400 px wide."""
    yield from opened(browser, service, viewport={"width": 400, "height": 800})
