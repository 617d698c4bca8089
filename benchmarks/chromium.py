"""Debian's Chromium, driven by Playwright, for tests, benchmarks and the images in docs/."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

__all__ = ["FLAGS", "chromium", "executable"]

# Chromium refuses its sandbox to root; the other flags keep it from contacting hosts on the internet.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def executable() -> str | None:
    """Where Chromium is (SFSC_CHROMIUM, else the usual names); None where it is not installed."""
    named = os.environ.get("SFSC_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser until the block ends. Raises FileNotFoundError where there is none."""
    found = executable()
    if found is None:
        raise FileNotFoundError("chromium must be installed (apt-get install chromium), found none on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
