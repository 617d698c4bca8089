"""A large gallery over HTTP: reads beside filtered searches, upserts with an image, the log beside writers.

    python benchmarks/gallery_load.py [--items 1000000] [--minutes 10] [--folder FOLDER]
    python benchmarks/gallery_load.py --quick    # for development; writes nothing

Needs wrk. Clustered vectors with four fields of metadata; a filter keeps 50, 5, 0.5 or 0.05 % of the items. The
service has checked its store and loaded the fields for filters before anything is measured.

- GET: one client asks for an item, waits 5 ms, asks for the next; alone, and beside four clients of wrk that
  search with filters without a pause. Alternating rounds, all answers of a kind together.
- Upserts: one client puts an image of 128 pixels at the narrowest width, then a vector, in turn; every image is
  another file. `in the store` are the same writes to an embedded store without a service.
- Log: for some minutes four clients search with filters, one lists and counts what a filter keeps, one puts single
  vectors and one puts calls of 200, all without a pause. The size of SQLite's log is read ten times a second.
"""

import argparse
import asyncio
import itertools
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from gallery_stores.data import SHARES, Value, field_of, value_of
from live_service import launched, wait_idle
from load import finish, start
from raw_http import Call, Caller, make_call
from result_file import Figure, write_result
from search import drawn
from sfsc_bundle.folder import open_bundle
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import EncodedImage, Float32, Item
from untrained import images

BUNDLE = Path(__file__).parents[1] / "models" / "demo"
SEED = 1
WIDTH = "1.0"
CALL = 10_000
K = 10
SEARCHERS = 4
ROUNDS = 4
SECONDS = 15
PAUSE_S = 0.005
UPSERTS = 300
BULK = 200
BODIES = 32
LOOK_EVERY_S = 0.1
TIMEOUT_S = 60.0
JSON = "application/json"


def main() -> None:
    """Fill, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--folder", type=Path, help="keep the gallery here, and use one that is here")
    parser.add_argument("--quick", action="store_true", help="for development; writes nothing")
    options = parser.parse_args()
    items, minutes = (5_000, 0.1) if options.quick else (options.items, options.minutes)
    rounds, seconds, upserts = (1, 2, 10) if options.quick else (ROUNDS, SECONDS, UPSERTS)
    manifest = open_bundle(BUNDLE).manifest
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = options.folder or work / "gallery"
        if not folder.exists():
            fill(folder, items, manifest.dimension, manifest.space)
        traffic = Traffic(items, manifest.dimension, manifest.space)
        figures, data = list[Figure](), dict[str, Any]()
        settings = {"SFSC_DATA": str(folder), "SFSC_LOG_LEVEL": "warning", "SFSC_QUEUE_MS": "20000"}
        with launched(BUNDLE, work, **settings) as (client, pid):
            wait_idle(pid)
            more, data["get"] = reads(client, traffic, work, rounds, seconds)
            figures += more
            more, data["upserts"] = writes(client, traffic, manifest.widths[0], upserts)
            figures += more
            more, data["log"] = log(client, traffic, folder, 60 * minutes)
            figures += more
        figures.append(stored(work / "small", traffic, upserts))
    for figure in figures:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit}", figure.goal or "", figure.met)
    if not options.quick:
        data |= {"items": items, "load average at the end": os.getloadavg()[0]}
        print("written to", write_result("gallery_load", figures, data, seed=SEED))


def fill(folder: Path, items: int, dimension: int, space: str) -> None:
    rng = np.random.default_rng(SEED)
    fields = {share: rng.integers(count, size=items) for share, count in SHARES.items()}
    store = EmbeddedStore(folder, space, dimension)
    for first in range(0, items, CALL):
        vectors = drawn(min(CALL, items - first), dimension, first + SEED)
        store.upsert(
            [
                Item(name_of(first + n), space, WIDTH, vector, metadata_of(fields, first + n))
                for n, vector in enumerate(vectors)
            ]
        )
    store.close()


def name_of(number: int) -> str:
    return f"item-{number:08d}"


def metadata_of(fields: dict[str, "np.ndarray[Any, Any]"], n: int) -> dict[str, Value]:
    return {field_of(share): value_of(share, int(values[n])) for share, values in fields.items()}


def filter_of(share: str) -> dict[str, Value]:
    return {field_of(share): value_of(share, 0)}


class Traffic:
    """Draws calls to a gallery of `items` that `fill` has made."""

    def __init__(self, items: int, dimension: int, space: str) -> None:
        self.items, self.dimension, self.space = items, dimension, space
        self._rng = np.random.default_rng(SEED)
        self._vectors = drawn(4 * BULK, dimension, SEED + 2)
        self._drawn = itertools.count()
        self._images = images(BODIES)

    def vector(self) -> Float32:
        vector: Float32 = self._vectors[next(self._drawn) % len(self._vectors)]
        return vector

    def get(self) -> Call:
        number = int(self._rng.integers(self.items))
        return make_call("get", "GET", f"/items/{name_of(number)}", route="/items/{id}")

    def search_bodies(self) -> list[bytes]:
        """Searches with filters of all shares."""
        shares = itertools.islice(itertools.cycle(SHARES), BODIES)
        return [json.dumps(self._given() | {"k": K, "filter": filter_of(share)}).encode() for share in shares]

    def listing(self) -> Call:
        share = list(SHARES)[next(self._drawn) % len(SHARES)]
        wanted = json.dumps(filter_of(share))
        if next(self._drawn) % 2:
            return make_call("count", "GET", "/items:count", filter=wanted)
        return make_call("list", "GET", "/items", filter=wanted, limit=100)

    def put(self, prefix: str) -> Call:
        number = next(self._drawn) % 1_000
        body = json.dumps(self._given() | {"metadata": filter_of("5")}).encode()
        return make_call("put", "PUT", f"/items/{prefix}-{number}", body, content_type=JSON, route="/items/{id}")

    def bulk(self, prefix: str) -> Call:
        lines = [self._given() | {"id": f"{prefix}-{n}", "metadata": filter_of("50")} for n in range(BULK)]
        body = "\n".join(map(json.dumps, lines)).encode()
        return make_call("bulk", "POST", "/items", body, content_type="application/x-ndjson")

    def image(self, number: int) -> bytes:
        """A JPEG that no other number has: the number stands in a comment."""
        image, comment = self._images[number % len(self._images)], f"{number:016d}".encode()
        return image[:2] + b"\xff\xfe" + (2 + len(comment)).to_bytes(2, "big") + comment + image[2:]

    def _given(self) -> dict[str, Any]:
        return {"vector": self.vector().tolist(), "width": WIDTH, "space": self.space}


def reads(
    client: httpx.Client, traffic: Traffic, work: Path, rounds: int, seconds: int
) -> tuple[list[Figure], dict[str, Any]]:
    """GET alone and beside searches, in turn."""
    paths = []
    for number, body in enumerate(traffic.search_bodies()):
        paths.append(work / f"search-{number}.json")
        paths[-1].write_bytes(body)
    url, port = f"{client.base_url}/search", client.base_url.port or 80
    took: dict[str, list[float]] = {"alone": [], "beside": []}
    searched = []
    for _ in range(rounds):
        took["alone"] += asyncio.run(get_for(port, traffic, seconds))
        load = start(url, paths, seconds + 2, kind=JSON, clients=SEARCHERS)
        time.sleep(1)
        took["beside"] += asyncio.run(get_for(port, traffic, seconds))
        searched.append(finish(load).per_second)
    p50, p99 = ({kind: float(np.percentile(ms, share)) for kind, ms in took.items()} for share in (50, 99))
    figures = [
        Figure(
            "GET of an item, p99 beside 4 filtered searchers ÷ alone", p99["beside"] / p99["alone"], "×", "<= 2"
        ),
        Figure("GET of an item, p99 alone", p99["alone"], "ms"),
        Figure("GET of an item, p99 beside 4 filtered searchers", p99["beside"], "ms"),
        Figure("GET of an item, median beside ÷ alone", p50["beside"] / p50["alone"], "×"),
        Figure("filtered searches meanwhile", median(searched), "searches/s"),
    ]
    return figures, {"answers": {kind: len(ms) for kind, ms in took.items()}, "p50_ms": p50, "p99_ms": p99}


async def get_for(port: int, traffic: Traffic, seconds: float) -> list[float]:
    """Milliseconds of every GET."""
    caller, took = Caller(port, TIMEOUT_S), list[float]()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        call = traffic.get()
        began = time.perf_counter()
        answer = await caller.call(call)
        took.append(1e3 * (time.perf_counter() - began))
        assert answer.status == 200, answer
        await asyncio.sleep(PAUSE_S)
    caller.close()
    return took


def writes(client: httpx.Client, traffic: Traffic, width: str, count: int) -> tuple[list[Figure], dict[str, Any]]:
    """Upserts with an image and with a vector, one after the other; and what embedding the image takes alone."""
    took: dict[str, list[float]] = {"image": [], "vector": [], "embedding": []}
    jpeg = {"Content-Type": "image/jpeg"}
    for number in range(count + 1):
        vector = {"vector": traffic.vector().tolist(), "width": width, "space": traffic.space}
        fresh = traffic.image(number)
        calls: dict[str, Callable[[], httpx.Response]] = {
            "image": lambda fresh=fresh, number=number: client.put(  # type: ignore[misc]
                f"/items/image-{number}", params={"width": width}, content=fresh, headers=jpeg
            ),
            "vector": lambda vector=vector, number=number: client.put(  # type: ignore[misc]
                f"/items/vector-{number}", json=vector
            ),
            "embedding": lambda fresh=fresh: client.post(  # type: ignore[misc]
                "/embed", params={"width": width}, content=fresh, headers=jpeg
            ),
        }
        for name, call in calls.items():
            began = time.perf_counter()
            call().raise_for_status()
            took[name].append(1e3 * (time.perf_counter() - began))
    ms = {name: median(times[1:]) for name, times in took.items()}
    figures = [
        Figure("upsert with an image ÷ with a vector, HTTP", ms["image"] / ms["vector"], "×", "<= 3"),
        Figure("upsert with an image, HTTP", ms["image"], "ms"),
        Figure("upsert with a vector, HTTP", ms["vector"], "ms"),
        Figure("embedding the image without storing it, HTTP", ms["embedding"], "ms"),
    ]
    return figures, {"count": count, "milliseconds": ms}


def stored(folder: Path, traffic: Traffic, count: int) -> Figure:
    """The same writes without a service."""
    took: dict[str, list[float]] = {"image": [], "vector": []}
    store = EmbeddedStore(folder, traffic.space, traffic.dimension)
    for number in range(count + 1):
        image = EncodedImage(traffic.image(number), "image/jpeg")
        for name, given in (("image", image), ("vector", None)):
            item = Item(f"{name}-{number}", traffic.space, WIDTH, traffic.vector(), {}, given)
            began = time.perf_counter()
            store.upsert([item])
            took[name].append(time.perf_counter() - began)
    store.close()
    ratio = median(took["image"][1:]) / median(took["vector"][1:])
    return Figure("upsert with an image ÷ with a vector, in the store", ratio, "×")


def log(
    client: httpx.Client, traffic: Traffic, folder: Path, seconds: float
) -> tuple[list[Figure], dict[str, Any]]:
    """The size of the log beside readers and writers."""
    sizes, answers, longest = asyncio.run(beside(client.base_url.port or 80, traffic, folder, seconds))
    failed = sum(count for (_, status), count in answers.items() if status != 200)
    done = {kind: count / seconds for (kind, status), count in sorted(answers.items()) if status == 200}
    minutes = f"{seconds / 60:g} minutes"
    figures = [
        Figure(
            f"log of the database beside filtered readers and writers, most in {minutes}",
            max(sizes) / 1e6,
            "MB",
            "<= 64",
        ),
        Figure("log beside filtered readers and writers, median", median(sizes) / 1e6, "MB"),
        Figure("meanwhile: filtered searches", done.get("search", 0.0), "calls/s"),
        Figure("meanwhile: lists and counts", done.get("list", 0.0) + done.get("count", 0.0), "calls/s"),
        Figure("meanwhile: items written", done.get("put", 0.0) + BULK * done.get("bulk", 0.0), "items/s"),
        Figure("meanwhile: longest put of one vector", longest["put"], "ms"),
        Figure("meanwhile: calls that failed", failed, "calls", "<= 0"),
    ]
    statuses = {f"{kind} {status}": count for (kind, status), count in sorted(answers.items(), key=str)}
    return figures, {"seconds": seconds, "answers": statuses, "longest_ms": longest, "log_mb": thinned(sizes)}


async def beside(
    port: int, traffic: Traffic, folder: Path, seconds: float
) -> tuple[list[int], Counter[tuple[str, int | str | None]], dict[str, float]]:
    """Sizes of the log, answers by kind and status, and the longest of each kind in milliseconds."""
    answers, longest, sizes = Counter[tuple[str, int | str | None]](), dict[str, float](), list[int]()
    end = time.monotonic() + seconds
    bodies = itertools.cycle(traffic.search_bodies())

    async def ask(draw: Callable[[], Call]) -> None:
        caller = Caller(port, TIMEOUT_S)
        while time.monotonic() < end:
            call = draw()
            began = time.monotonic()
            answer = await caller.call(call)
            took = 1e3 * (time.monotonic() - began)
            longest[call.kind] = max(took, longest.get(call.kind, 0.0))
            answers[call.kind, answer.status or answer.failure] += 1
        caller.close()

    async def watch() -> None:
        path = folder / "database.sqlite-wal"
        while time.monotonic() < end:
            sizes.append(path.stat().st_size if path.exists() else 0)
            await asyncio.sleep(LOOK_EVERY_S)

    async with asyncio.TaskGroup() as group:
        for _ in range(SEARCHERS):
            group.create_task(ask(lambda: make_call("search", "POST", "/search", next(bodies), content_type=JSON)))
        group.create_task(ask(traffic.listing))
        group.create_task(ask(lambda: traffic.put("single")))
        group.create_task(ask(lambda: traffic.bulk("bulk")))
        group.create_task(watch())
    return sizes, answers, longest


def thinned(sizes: Sequence[int]) -> list[float]:
    """The most of every hundredth part of the time, in MB."""
    parts = np.array_split(np.array(sizes) / 1e6, min(100, len(sizes)))
    return [round(float(part.max()), 1) for part in parts]


if __name__ == "__main__":
    main()
