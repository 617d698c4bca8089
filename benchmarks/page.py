"""The gallery page in Chromium on loopback: bytes, time to interactive, time of a search.

    python benchmarks/page.py                 # models/demo; another bundle with a gallery can be named

A search is timed as a visitor sees it: from choosing a width to the first frame with its hits.
"""

import argparse
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Page

from chromium import chromium
from demo_service import demo_service
from result_file import Figure, write_result
from sfsc_bundle.folder import open_bundle

WATCH = """
addEventListener("change", () => { window.chosen = performance.now(); window.took = null; }, true);
addEventListener("DOMContentLoaded", () => new MutationObserver(() => {
  if (!document.querySelector("#output .card[data-id]") || window.took !== null) return;
  requestAnimationFrame(() => setTimeout(() => { window.took = performance.now() - window.chosen; }));
}).observe(document.getElementById("output"), { childList: true }));
"""
TRANSFERRED = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .filter((one) => !one.name.startsWith("blob:"))
  .map((one) => ({ name: new URL(one.name).pathname, bytes: one.transferSize }))"""


def main() -> None:
    """Measure and write benchmarks/results/page.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, default=Path("models/demo"), help="with a gallery in it")
    parser.add_argument("--runs", type=int, default=9, help="loads and searches per width; medians are kept")
    arguments = parser.parse_args()
    widths = open_bundle(arguments.bundle).manifest.widths
    with demo_service(arguments.bundle) as url, chromium() as browser:
        loads = [load(browser, url) for _ in range(arguments.runs)]
        searches = search(browser, url, widths, arguments.runs)
    figures = [
        Figure("bytes before images", median(one["bytes"] for one in loads) / 1000, "KB", "<= 200"),
        Figure("time to interactive", median(one["interactive_s"] for one in loads), "s", "<= 1"),
        Figure("first hits after opening", median(one["first_hits_s"] for one in loads), "s"),
        Figure("search at width 1.0", median(searches["1.0"]), "ms", "<= 150"),
        *(Figure(f"search at width {width}", median(searches[width]), "ms") for width in widths if width != "1.0"),
    ]
    data = {"bundle": arguments.bundle.name, "loads": loads, "searches_ms": searches}
    path = write_result("page", figures, data)
    for figure in figures:
        print(f"{figure.name:28} {figure.value:8.3f} {figure.unit:4} {figure.goal or ''}")
    print(path)


def load(browser: Browser, url: str) -> dict[str, float]:
    """Open the page with an empty cache."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("#output .card[data-id]")
        shown = page.evaluate("performance.now()")
        page.wait_for_load_state("networkidle")
        sizes = [one["bytes"] for one in page.evaluate(TRANSFERRED) if not is_image(one["name"])]
        interactive = page.evaluate("performance.getEntriesByName('interactive')[0].startTime")
    return {"bytes": sum(sizes), "interactive_s": interactive / 1000, "first_hits_s": shown / 1000}


def is_image(path: str) -> bool:
    """Whether an address is that of an image in the gallery or of a sample."""
    return path.endswith("/image") or path.startswith("/samples/")


def search(browser: Browser, url: str, widths: tuple[str, ...], runs: int) -> dict[str, list[float]]:
    """Milliseconds from choosing a width to its hits, widths in turn; the first round warms up."""
    times: dict[str, list[float]] = {width: [] for width in widths}
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.add_init_script(WATCH)
        page.goto(f"{url}/#width={widths[-1]}")
        page.wait_for_selector("#output .card[data-id]")
        for run in range(runs + 1):
            for width in widths:
                took = choose(page, width)
                if run:
                    times[width].append(round(took, 2))
    return times


def choose(page: Page, width: str) -> float:
    """Choose a width on the page and wait for its hits."""
    page.evaluate("window.took = null")
    page.locator(f'label:has(input[name="width"][value="{width}"])').click()
    took: Any = page.wait_for_function("() => window.took").json_value()
    return float(took)


if __name__ == "__main__":
    main()
