"""Screenshots of the gallery page for docs/.

    python benchmarks/screenshots.py          # models/demo; another bundle with a gallery can be named

The page brings no font, so the screenshots depend on the machine's system font.
"""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page

from chromium import chromium
from demo_service import demo_service

DOCS = Path(__file__).parent.parent / "docs"
MAX_BYTES, MAX_FLAT, GAP = 300_000, 48, 24
MOVE = "(input, place) => { input.value = place; input.dispatchEvent(new Event('change')); }"
SETTLED = "() => [...document.images].every((one) => one.complete) && document.querySelector('.card[data-id]')"


@dataclass(frozen=True, slots=True)
class Shot:
    """One image of the page, cut into `columns` side by side where it is narrow and long.

    `part` is the selector of what is shown; without it, the whole page. `searches_s` is for how many seconds the
    demo's load rises before.
    """

    name: str
    width: int
    scheme: str
    view: str = ""
    columns: int = 1
    part: str | None = None
    searches_s: int = 0


SHOTS = (
    Shot("page-1280-light", 1280, "light"),
    Shot("page-400-dark", 400, "dark", columns=4),
    Shot("page-widths-1280-dark", 1280, "dark", "mode=gflops&view=compare&metric=rank1"),
    Shot("page-widths-400-light", 400, "light", "view=compare", columns=4),
    Shot("page-load-1280-light", 1280, "light", part="#traffic .panel", searches_s=50),
)


def main() -> None:
    """Take every screenshot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, default=Path("models/demo"), help="with a gallery in it")
    parser.add_argument("--sample", help="the query's sample; the first one if left out")
    parser.add_argument("--width", help="the query's width; the narrowest if left out")
    parser.add_argument("--out", type=Path, default=DOCS)
    given = parser.parse_args()
    query = "&".join(f"{name}={value}" for name in ("sample", "width") if (value := getattr(given, name)))
    with demo_service(given.bundle) as url, chromium() as browser:
        take(browser, f"{url}/#view=compare", SHOTS[0])  # warm up: the first search takes longer
        for shot in SHOTS:
            path = given.out / f"{shot.name}.png"
            page = take(browser, f"{url}/#{query}&{shot.view}", shot)
            path.write_bytes(small(arrange(page, shot.columns)))
            print(path, path.stat().st_size)


def take(browser: Browser, address: str, shot: Shot) -> bytes:
    """Open the page and photograph it once nothing is missing."""
    size = {"width": shot.width, "height": 900}
    with browser.new_context(viewport=size, color_scheme=shot.scheme, reduced_motion="reduce") as context:
        page = context.new_page()
        page.goto(address)
        page.wait_for_function(SETTLED)
        page.wait_for_load_state("networkidle")
        if shot.searches_s:
            raise_load(page, shot.searches_s)
        return page.locator(shot.part).screenshot() if shot.part else page.screenshot(full_page=True)


def raise_load(page: Page, seconds: int) -> None:
    """Move the slider of the demo's load from one end to the other, in steps of a second."""
    slider = page.locator("#load-slider input")
    slider.scroll_into_view_if_needed()
    page.wait_for_selector("#load-slider .tick")
    steps = int(slider.get_attribute("max") or 0)
    for second in range(1, seconds + 1):
        slider.evaluate(MOVE, steps * second // seconds)
        page.wait_for_timeout(1000)


def arrange(png: bytes, columns: int) -> Image.Image:
    """Cut a long image into columns of equal height."""
    with Image.open(io.BytesIO(png)) as opened:
        whole = opened.convert("RGB")
    height = -(-whole.height // columns)
    sheet = Image.new("RGB", ((whole.width + GAP) * columns - GAP, height), whole.getpixel((0, 0)))
    for column in range(columns):
        part = whole.crop((0, column * height, whole.width, min((column + 1) * height, whole.height)))
        sheet.paste(part, (column * (whole.width + GAP), 0))
    return sheet


def small(image: Image.Image) -> bytes:
    """A PNG with as many colours as fit into MAX_BYTES."""
    data = encode(image)
    for colours in (256, 192, 128, 64):
        if len(data) <= MAX_BYTES:
            break
        data = encode(palette(image, colours))
    return data


def encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def palette(image: Image.Image, colours: int) -> Image.Image:
    """Few colours for the flat parts, which are most of the page, so that most are left for the photographs."""
    pixels = np.asarray(image).reshape(-1, 3)
    found, counts = np.unique(pixels @ np.array([65536, 256, 1]), return_counts=True)
    flat = found[np.argsort(-counts)[:MAX_FLAT]]
    rest = pixels[~np.isin(pixels @ np.array([65536, 256, 1]), flat)]
    photographs = Image.fromarray(rest[None, :]).quantize(colours - len(flat), kmeans=4)
    table = photographs.getpalette() or []
    own = Image.new("P", (1, 1))
    own.putpalette([*table, *(int(one) >> shift & 255 for one in flat for shift in (16, 8, 0))])
    return image.quantize(palette=own, dither=Image.Dither.FLOYDSTEINBERG)


if __name__ == "__main__":
    main()
