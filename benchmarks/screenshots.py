"""The pictures of the gallery page in docs/.

    python benchmarks/screenshots.py          # models/demo; another bundle with a gallery can be named

The page has no font of its own; these pictures look as the machine's system font does.
"""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from chromium import chromium
from demo_service import demo_service

DOCS = Path(__file__).parent.parent / "docs"
MAX_BYTES = 3_000_000
SETTLED = "() => [...document.images].every((one) => one.complete) && document.querySelector('.card[data-id]')"


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture: the window's size, the colour scheme and the view; `height` None = the whole page."""

    name: str
    width: int
    scheme: str
    view: str = ""
    height: int | None = None


SHOTS = (
    Shot("page-1280-light", 1280, "light"),
    Shot("page-400-dark", 400, "dark", height=None),
    Shot("page-widths-1280-dark", 1280, "dark", "mode=gflops&view=compare&metric=rank1"),
    Shot("page-widths-400-light", 400, "light", "view=compare", height=None),
)


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, default=Path("models/demo"), help="with a gallery in it")
    parser.add_argument("--sample", help="the query's sample; the first one if left out")
    parser.add_argument("--width", help="the query's width; the narrowest if left out")
    parser.add_argument("--out", type=Path, default=DOCS)
    given = parser.parse_args()
    query = "&".join(f"{name}={value}" for name in ("sample", "width") if (value := getattr(given, name)))
    with demo_service(given.bundle) as url, chromium() as browser:
        for shot in SHOTS:
            path = given.out / f"{shot.name}.png"
            path.write_bytes(small(take(browser, f"{url}/#{query}&{shot.view}", shot)))
            print(path, path.stat().st_size)


def take(browser: Browser, address: str, shot: Shot) -> bytes:
    """Open the page and photograph it once nothing is missing."""
    size = {"width": shot.width, "height": shot.height or 900}
    with browser.new_context(viewport=size, color_scheme=shot.scheme, reduced_motion="reduce") as context:
        page = context.new_page()
        page.goto(address)
        page.wait_for_function(SETTLED)
        page.wait_for_load_state("networkidle")
        return page.screenshot(full_page=shot.height is None)


def small(png: bytes) -> bytes:
    """As it is where it is small enough, else with a palette."""
    if len(png) <= MAX_BYTES:
        return png
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        colours = picture.convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
        colours.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
