"""Mixed traffic: images of all sizes to all routes, and one call in a hundred that must be refused ("poison").

The gallery stops growing soon: PUT and DELETE draw from the same few ids, bulk calls replace their own items.
"""

import base64
import io
import json
import math
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image

from raw_http import Call, Departure, make_call

__all__ = ["REFUSALS", "Traffic", "acceptable"]

POISONOUS = 0.01
VANISHING = 0.01
IDS = 200
BULK = 16

REFUSALS = {
    429: None,
    503: {"queue_full", "queue_timeout", "deadline_unreachable", "store_busy"},
    504: {"deadline_passed"},
}
"""Statuses by which an overloaded service refuses, and the codes allowed with each; None allows any."""

DEPARTURES: tuple[Departure, ...] = ("while sending", "while waiting", "while reading")


class Traffic:
    """Draws calls, the same ones for the same seed. `widths`, `dimension`, `space`: the bundle's."""

    def __init__(self, seed: int, widths: tuple[str, ...], dimension: int, space: str) -> None:
        self._random = random.Random(seed)
        self._widths, self._dimension, self._space = widths, dimension, space
        small = [image(n, 48 + 16 * n, kind) for n, kind in enumerate(["JPEG"] * 12 + ["PNG", "WEBP"])]
        medium = [image(20 + n, side, "JPEG") for n, side in enumerate((500, 800, 1200))]
        self._images = small * 6 + medium * 2 + [image(30, 3000, "JPEG")]
        self._poison = self._poisons()
        self._kinds: list[tuple[float, Callable[[], Call]]] = [
            (40, self._embed),
            (25, self._search),
            (6, self._search_vector),
            (8, self._put),
            (8, self._delete),
            (1, self._bulk),
            (6, self._get),
            (3, lambda: make_call("page", "GET", "/items", limit=50)),
            (3, lambda: make_call("widths", "GET", "/widths")),
        ]

    def draw(self, *, poison: bool = True) -> Call:
        """The next call."""
        lot = self._random.random()
        if poison and lot < POISONOUS:
            return self._random.choice(self._poison)
        weights = [weight for weight, _ in self._kinds]
        call = self._random.choices(self._kinds, weights)[0][1]()
        if poison and lot < POISONOUS + VANISHING and call.body:
            return replace(call, leaves=self._random.choice(DEPARTURES))
        return call

    def change(self, number: int) -> Call:
        """A write or a read that needs no network, so that many of them run at the same time."""
        if number % 2:
            return make_call("get", "GET", f"/items/item-{number % IDS}", route="/items/{id}")
        options = {"vector": self._vector(), "width": self._widths[0], "space": self._space}
        body = json.dumps(options).encode()
        path = f"/items/item-{number % IDS}"
        return make_call("put", "PUT", path, body, route="/items/{id}", content_type="application/json")

    def wait(self, rate: float) -> float:
        """Seconds until the next arrival of a Poisson process."""
        return -math.log(1.0 - self._random.random()) / rate

    def _image(self) -> bytes:
        return self._random.choice(self._images)

    def _budget(self) -> dict[str, object]:
        width = self._random.choice(self._widths)
        return self._random.choice(
            [{}, {"width": width}, {"latency_ms": 50}, {"gflops": 0.1}, {"deadline_ms": 300}]
        )

    def _id(self) -> str:
        return f"item-{self._random.randrange(IDS)}"

    def _vector(self) -> list[float]:
        vector = np.random.default_rng(self._random.randrange(2**32)).standard_normal(self._dimension)
        numbers: list[float] = (vector / np.linalg.norm(vector)).tolist()
        return numbers

    def _embed(self) -> Call:
        return make_call("embed", "POST", "/embed", self._image(), **self._budget())

    def _search(self) -> Call:
        return make_call("search", "POST", "/search", self._image(), k=10, **self._budget())

    def _search_vector(self) -> Call:
        options = {"vector": self._vector(), "width": self._widths[0], "space": self._space}
        return self._json("search vector", options)

    def _put(self) -> Call:
        path, budget = f"/items/{self._id()}", self._budget()
        return make_call("put", "PUT", path, self._image(), route="/items/{id}", **budget)

    def _delete(self) -> Call:
        return make_call("delete", "DELETE", f"/items/{self._id()}", route="/items/{id}")

    def _get(self) -> Call:
        if self._random.random() < 0.5:
            return make_call("get", "GET", f"/items/{self._id()}", route="/items/{id}")
        return make_call("get image", "GET", f"/items/{self._id()}/image", route="/items/{id}/image")

    def _bulk(self) -> Call:
        lines = [
            json.dumps({"id": f"bulk-{n}", "image": base64.b64encode(self._images[n]).decode(), "width": "1.0"})
            for n in range(BULK)
        ]
        return make_call("bulk", "POST", "/items", "\n".join(lines).encode(), content_type="application/x-ndjson")

    def _json(self, kind: str, options: object) -> Call:
        return make_call(kind, "POST", "/search", json.dumps(options).encode(), content_type="application/json")

    def _poisons(self) -> list[Call]:
        whole = image(40, 400, "JPEG")
        vector = {"width": self._widths[0], "space": self._space}
        search, embed = ("POST", "/search"), ("POST", "/embed")
        return [
            make_call("poison: half a JPEG", *embed, whole[: len(whole) // 2]),
            make_call("poison: no image", *embed, b"\0" * 5000),
            make_call("poison: a bomb", *embed, bomb(), content_type="image/png"),
            make_call("poison: 1x1", *embed, image(41, 1, "PNG"), content_type="image/png"),
            make_call("poison: no such type", *embed, whole, content_type="text/html"),
            make_call("poison: too long by its head", *embed, whole, route="unmatched", announced=2**33),
            make_call("poison: an image too long", *embed, b"\xff\xd8" + bytes(21 * 2**20)),
            make_call("poison: no such width", *embed, whole, width="0.33"),
            make_call("poison: bad JSON", *search, b'{"vector": [1,', content_type="application/json"),
            make_call("poison: too deep", *search, b"[" * 100_000, content_type="application/json"),
            self._json("poison: NaN", {"vector": [math.nan] * self._dimension, **vector}),
            self._json("poison: too short", {"vector": [1.0], **vector}),
        ]


def acceptable(call: Call, status: int) -> bool:
    """Whether a status other than a refusal is right for a call."""
    if call.kind == "poison: 1x1":
        return status == 200
    if call.kind.startswith("poison"):
        return 400 <= status < 500
    return status in ((200, 204, 404) if call.kind in ("delete", "get", "get image") else (200,))


def image(seed: int, side: int, format: str) -> bytes:
    """A square image of coarse noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, format, quality=80)
    return buffer.getvalue()


def bomb(side: int = 20_000) -> bytes:
    """A PNG of 400 megapixels in about 50 KB."""
    line = b"\0" + bytes(side // 8)
    squeezed = zlib.compressobj(9)
    data = b"".join(squeezed.compress(line) for _ in range(side)) + squeezed.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
