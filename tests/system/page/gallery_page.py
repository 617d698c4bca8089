"""The gallery page in a real browser, and a small gallery whose identities the tiny bundle tells apart."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page
from playwright.sync_api import TimeoutError as StillWaiting

from tests.service.live import Live

__all__ = ["HITS", "TIMEOUT_MS", "TOP", "WIDTHS", "GalleryPage", "dragging", "fill", "shot", "write_listing"]

WIDTHS = ("0.25", "0.5", "0.75", "1.0")
HITS, TOP = 10, 6
IDENTITIES, SHOTS, SAMPLES = 7, 4, 4
TIMEOUT_MS = 30_000

# Metadata must be shown as text and never run as HTML.
HOSTILE = "<img src=x onerror=document.title='broken-in'>"

_SHOWN = """() => ({
  width: document.querySelector("#answer .sentence .badge")?.textContent.replace("width ", ""),
  hits: [...document.querySelectorAll("#output .card[data-id]")].map((card) => [
    card.dataset.id,
    card.querySelector(".score")?.textContent,
    card.querySelector(".badge").textContent.replace("width ", ""),
  ]),
})"""

Shown = dict[str, Any]


def shot(identity: int, number: int) -> bytes:
    """An image of an identity: its own coarse pattern, and a little that changes from shot to shot."""
    pattern = np.random.default_rng(identity).uniform(40, 215, (8, 8, 3))
    change = np.random.default_rng([identity, number]).normal(0, 14, (8, 8, 3))
    coarse = np.clip(pattern + change, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def write_listing(folder: Path) -> Path:
    """Sample images and their gallery.json."""
    queries = []
    for identity in range(SAMPLES):
        name = f"sample-{identity}.png"
        (folder / name).write_bytes(shot(identity, 99))
        queries.append({"file": name, **_about(identity)})
    listing = folder / "gallery.json"
    listing.write_text(json.dumps({"queries": queries}))
    return listing


def fill(live: Live, widths: Sequence[str] = WIDTHS) -> None:
    """Put in a few shots of each identity, at the widths in turn."""
    for identity in range(IDENTITIES):
        for number in range(SHOTS):
            answer = live.put_image(
                f"/items/i{identity}-s{number}",
                shot(identity, number),
                width=widths[(identity + number) % len(widths)],
                metadata=json.dumps({**_about(identity), "shot": number}),
            )
            assert answer.status_code == 200, answer.text


def _about(identity: int) -> dict[str, Any]:
    return {"identity": f"i{identity}", "pattern": f"pattern {identity}", "note": HOSTILE}


@dataclass
class GalleryPage:
    """One tab. `told` collects what a clean page does not do: errors, warnings, requests to anywhere else."""

    page: Page
    live: Live
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("request", lambda request: self._check_address(request.url))

    def open(self, view: str = "") -> "GalleryPage":
        """Go to the page, with a view in its address, and wait until every control works."""
        self.page.goto(f"{self.live.url}/#{view}")
        self.page.wait_for_selector("html[data-interactive]")
        return self

    def forgive(self, part: str) -> None:
        """Take back what a test caused on purpose; it must have been told."""
        assert any(part in text for text in self.told), self.told
        self.told[:] = [text for text in self.told if part not in text]

    def ask(self, image: bytes, k: int = HITS, **budget: Any) -> dict[str, Any]:
        """What the service answers for an image."""
        answer = self.live.post_image("/search", image, k=k, **budget)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def without(self, id: str, **budget: Any) -> dict[str, Any]:
        """What the service answers for an item's image, less the item itself."""
        image = self.live.http.get(f"/items/{id}/image").content
        answer = self.ask(image, k=HITS + 1, **budget)
        return answer | {"hits": [hit for hit in answer["hits"] if hit["id"] != id][:HITS]}

    def shows(self, answer: dict[str, Any]) -> None:
        """Wait until the page shows exactly an answer's hits and width."""
        hits = [[hit["id"], f"{hit['score']:.3f}", hit["width"]] for hit in answer["hits"]]
        expected = {"width": answer["query"]["width"], "hits": hits}
        try:
            same = f"(expected) => JSON.stringify(({_SHOWN})()) === JSON.stringify(expected)"
            self.page.wait_for_function(same, arg=expected)
        except StillWaiting:
            assert self.page.evaluate(_SHOWN) == expected

    def shown_ids(self) -> list[str]:
        """The ids of the cards, hits or items of the gallery, in order."""
        ids: list[str] = self.page.locator("#output [data-id]").evaluate_all(
            "all => all.map((one) => one.dataset.id)"
        )
        return ids

    def focused(self) -> dict[str, str]:
        """The id, class and text of what has the focus, and the item that it belongs to."""
        said: dict[str, str] = self.page.evaluate(
            "() => { const now = document.activeElement; return { id: now.id, kind: now.className,"
            " text: now.textContent.trim(), item: now.closest('[data-id]')?.dataset.id ?? '' }; }"
        )
        return said

    def choose(self, name: str, value: str) -> None:
        """Click on a radio button's label."""
        self.page.locator(f'label:has(input[name="{name}"][value="{value}"])').click()

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements of a selector."""
        return self.page.locator(selector).all_inner_texts()

    def tab_stops(self) -> Iterator[dict[str, Any]]:
        """Press Tab from the top of the page to its end; what has the focus, and whether that can be seen."""
        seen = set()
        while True:
            self.page.keyboard.press("Tab")
            stop = self.page.evaluate(_FOCUS)
            if stop is None or stop["key"] in seen:
                return
            seen.add(stop["key"])
            yield stop

    def _hear(self, message: ConsoleMessage) -> None:
        # Chromium drops its connections whenever a network interface (a container's, say) comes or goes.
        if message.type in ("error", "warning") and "ERR_NETWORK_CHANGED" not in message.text:
            self.told.append(message.text)

    def _check_address(self, url: str) -> None:
        if not url.startswith((self.live.url, "blob:", "data:")):
            self.told.append(f"request to {url}")


@contextmanager
def dragging(page: Page, files: dict[str, bytes], target: str) -> Iterator[None]:
    """Drag files over the page, and drop them on an element when the block ends."""
    make = """(files) => { const data = new DataTransfer();
      for (const [name, bytes] of files)
        data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
      return data; }"""
    data = {"dataTransfer": page.evaluate_handle(make, [[name, list(data)] for name, data in files.items()])}
    page.dispatch_event("h1", "dragover", data)
    page.dispatch_event(target, "dragover", data)
    yield
    page.dispatch_event(target, "drop", data)


# The ring is drawn by the control itself or, where that is invisible, by what stands for it in its label.
_FOCUS = """() => {
  const now = document.activeElement;
  if (!now || now === document.body) return null;
  const stands = [now, now.nextElementSibling, now.closest("label")?.querySelector("img")];
  const visible = stands.filter(Boolean).some((one) => {
    const style = getComputedStyle(one);
    return style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2;
  });
  const place = [...document.querySelectorAll("*")].indexOf(now);
  const said = { id: now.id, name: now.name ?? "", text: now.textContent.trim(), kind: now.className };
  return { ...said, key: place, visible };
}"""
