"""A polite client beside strangers: bulk calls that are abandoned, expensive filters, decode bombs, full doors.

    python benchmarks/strangers.py             # models/demo, about three minutes
    python benchmarks/strangers.py --quick     # for development; writes nothing

Each case has a service of its own. Times are the polite client's, alone and beside the strangers, in one run.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import numpy as np

from crowd import draw
from live_service import launched
from mixed_traffic import image
from raw_http import Call, Caller, make_call
from result_file import Figure, write_result

SLO_MS = 100.0
QUEUE_MS = 2000.0
LEAVERS, BULK_IMAGES = 10, 64
UPLOADED = 1280
FILTERERS, FILTERED_ITEMS = 300, 50_000
BOMBS = 32
DOORS = 64
TIMEOUT_S = 120.0
NDJSON = "application/x-ndjson"

Behaviour = Callable[[int, Call], Coroutine[Any, Any, None]]
"""What a stranger does once, with the service's port and a call."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the polite client got: latencies in milliseconds, statuses of all its calls."""

    latencies_ms: list[float]
    statuses: dict[int | None, int]

    @property
    def p99_ms(self) -> float:
        return quantiles(self.latencies_ms, n=100, method="inclusive")[-1] if len(self.latencies_ms) > 1 else 1e9

    def share(self, status: int) -> float:
        """The share of calls that got a status."""
        return self.statuses.get(status, 0) / max(1, sum(self.statuses.values()))


def main() -> None:
    """Measure and write benchmarks/results/strangers.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("models/demo"))
    parser.add_argument("--only", help="part of the name of a case; writes nothing")
    parser.add_argument("--quick", action="store_true", help="shorter")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    seconds = 4.0 if arguments.quick else 15.0
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        bodies = [body.read_bytes() for body in draw(Path(name))]
        for case in (_leavers, _abandoned, _filters, _bombs, _doors):
            if arguments.only and arguments.only not in case.__name__:
                continue
            found = case(arguments.bundle, Path(name), bodies, seconds)
            for figure in found:
                print(f"{figure.name:80} {figure.value:9.3f} {figure.unit:6} {figure.goal or ''} {figure.met}")
            figures += found
    if not (arguments.quick or arguments.only):
        print(write_result("strangers", figures, {"seconds": seconds, "load": os.getloadavg()[0]}, seed=0))


def _leavers(bundle: Path, folder: Path, bodies: list[bytes], seconds: float) -> list[Figure]:
    """A search at a time beside clients that send bulk calls and leave."""
    lines = [_line(f"b{n}", bodies[n % len(bodies)]) for n in range(BULK_IMAGES)]
    bulk = make_call("bulk", "POST", "/items", "\n".join(lines).encode(), content_type=NDJSON)
    with _service(bundle, folder) as port:

        async def measure() -> tuple[Outcome, Outcome]:
            search = make_call("search", "POST", "/search", bodies[0], k=10)
            alone = await _politely(port, search, seconds / 2)
            with _strangers(LEAVERS, _send_and_leave, port, bulk):
                return alone, await _politely(port, search, seconds)

        alone, beside = asyncio.run(measure())
    return [
        Figure("a search alone: p99", alone.p99_ms, "ms"),
        Figure(f"beside {LEAVERS} clients that send bulk calls and leave: p99", beside.p99_ms, "ms", "<= 200"),
        Figure("answered with 200", beside.share(200), "", ">= 1"),
    ]


def _abandoned(bundle: Path, folder: Path, bodies: list[bytes], _seconds: float) -> list[Figure]:
    """An upload whose client leaves as soon as all of it is sent."""
    lines = [_line(f"a{n}", bodies[n % len(bodies)], width="1.0") for n in range(UPLOADED)]
    bulk = make_call("bulk", "POST", "/items", "\n".join(lines).encode(), content_type=NDJSON)
    with _service(bundle, folder) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        asyncio.run(_send_and_leave(port, bulk))
        stored = _settled(lambda: float(client.get("/widths").json()["gallery"]["items"]))
        counted = _metric(client, 'sfsc_problems_total{code="client_gone"}')
    return [
        Figure(f"abandoned upload of {UPLOADED} items: stored", stored, "items", f"< {UPLOADED}"),
        Figure("abandoned calls counted", counted, "calls", ">= 1"),
    ]


def _filters(bundle: Path, folder: Path, bodies: list[bytes], seconds: float) -> list[Figure]:
    """A search without a filter, and a look-up, beside many searches with one that reads every item."""
    with (
        _service(bundle, folder) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client,
    ):
        space, dimension = (client.get("/widths").json()[name] for name in ("space", "dim"))
        _fill(client, space, dimension)
        item = client.get("/items/v0", params={"vectors": True}).json()
        vector = {"vector": item["embedding"], "width": "1.0", "space": space}
        costly = _json({**vector, "filter": {"$id": {"$ne": ""}, "no": -1}})
        search = make_call("search", "POST", "/search", bodies[0], k=10)
        look_up = make_call("get", "GET", "/items/v0")

        async def measure() -> tuple[Outcome, Outcome, Outcome]:
            alone = await _politely(port, search, seconds / 3)
            with _strangers(FILTERERS, _repeat, port, costly):
                await asyncio.sleep(2)
                return alone, await _politely(port, search, seconds), await _politely(port, look_up, 3)

        alone, beside, gets = asyncio.run(measure())
        refused = _metric(client, 'sfsc_problems_total{code="queue_full"}')
    return [
        Figure("a search alone: p50", median(alone.latencies_ms), "ms"),
        Figure(f"beside {FILTERERS} clients with expensive filters: p50", median(beside.latencies_ms), "ms"),
        Figure("longest", max(beside.latencies_ms), "ms", f"<= {QUEUE_MS:g}"),
        Figure("an item looked up beside them: p99", gets.p99_ms, "ms"),
        Figure("filtered searches answered with 429", refused, "calls", "> 0"),
    ]


def _bombs(bundle: Path, folder: Path, bodies: list[bytes], seconds: float) -> list[Figure]:
    """Small JPEGs, which need no slot to be decoded, beside PNGs of 39 megapixels."""
    bomb = make_call("bomb", "POST", "/embed", image(1, 6200, "PNG"), content_type="image/png")
    with _service(bundle, folder) as port:

        async def measure() -> Outcome:
            with _strangers(BOMBS, _repeat, port, bomb):
                await asyncio.sleep(2)
                return await _politely(port, make_call("small", "POST", "/embed", bodies[0]), seconds)

        beside = asyncio.run(measure())
    return [
        Figure(
            f"small JPEGs beside {BOMBS} clients with decode bombs: answered with 429",
            beside.share(429),
            "",
            "<= 0",
        ),
        Figure("p99", beside.p99_ms, "ms"),
    ]


def _doors(bundle: Path, folder: Path, _bodies: list[bytes], _seconds: float) -> list[Figure]:
    """Health checks while as many connections are open as may be."""
    with _service(bundle, folder, SFSC_MAX_CONNECTIONS=str(DOORS)) as port:

        async def measure() -> Counter[int | None]:
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(DOORS)]
            caller = Caller(port, 5.0)
            calls = [make_call("health", "GET", path) for path in ("/livez", "/readyz") * 50]
            statuses = Counter([(await caller.call(call)).status for call in calls])
            for _, writer in opened:
                writer.close()
            return statuses

        statuses = asyncio.run(measure())
    share = statuses[200] / sum(statuses.values())
    return [Figure("health checks answered with 200 while every connection is taken", share, "", ">= 1")]


@contextmanager
def _service(bundle: Path, folder: Path, **settings: str) -> Iterator[int]:
    bounds = {"SFSC_SLO_MS": str(SLO_MS), "SFSC_QUEUE_MS": str(QUEUE_MS), "SFSC_LOG_LEVEL": "error"}
    default_nice = {"SFSC_NICE": "10"}
    with launched(bundle, folder, **(default_nice | bounds | settings)) as (client, _):
        port = client.base_url.port
        assert port is not None
        client.close()
        yield port


@contextmanager
def _strangers(count: int, behave: Behaviour, port: int, call: Call) -> Iterator[None]:
    """So many clients that do it again and again, in a process of their own."""
    process = multiprocessing.get_context("spawn").Process(target=_misbehave, args=(count, behave, port, call))
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _misbehave(count: int, behave: Behaviour, port: int, call: Call) -> None:
    async def repeat() -> None:
        while True:
            with contextlib.suppress(OSError):
                await behave(port, call)

    async def all_of_them() -> None:
        await asyncio.gather(*(repeat() for _ in range(count)))

    asyncio.run(all_of_them())


async def _politely(port: int, call: Call, seconds: float) -> Outcome:
    """One call after the other, with a pause between them."""
    caller, latencies, statuses = Caller(port, TIMEOUT_S), [], Counter[int | None]()
    end = time.monotonic() + seconds
    while time.monotonic() < end or not latencies:
        began = time.monotonic()
        answer = await caller.call(call)
        statuses[answer.status] += 1
        latencies.append(1000 * (time.monotonic() - began))
        await asyncio.sleep(0.02)
    caller.close()
    return Outcome(latencies, dict(statuses))


async def _send_and_leave(port: int, call: Call) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(call.head + call.body)
        await writer.drain()
        await asyncio.sleep(0.05)
    finally:
        writer.close()


async def _repeat(port: int, call: Call) -> None:
    caller = Caller(port, TIMEOUT_S)
    while True:
        await caller.call(call)


def _line(id: str, body: bytes, **options: object) -> str:
    return json.dumps({"id": id, "image": base64.b64encode(body).decode(), **options})


def _json(options: object) -> Call:
    return make_call("json", "POST", "/search", json.dumps(options).encode(), content_type="application/json")


def _fill(client: httpx.Client, space: str, dimension: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((FILTERED_ITEMS, dimension)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for first in range(0, FILTERED_ITEMS, 5000):
        lines = [
            json.dumps(
                {
                    "id": f"v{first + n}",
                    "vector": base64.b64encode(vector.tobytes()).decode(),
                    "width": "1.0",
                    "space": space,
                    "metadata": {"no": first + n},
                }
            )
            for n, vector in enumerate(vectors[first : first + 5000])
        ]
        answer = client.post("/items", content="\n".join(lines), headers={"Content-Type": NDJSON})
        assert answer.json()["failed"] == 0, answer.text[:500]


def _settled(value: Callable[[], float]) -> float:
    """The value once it has not changed for two seconds."""
    last, since = value(), time.monotonic()
    while time.monotonic() - since < 2:
        time.sleep(0.2)
        if (found := value()) != last:
            last, since = found, time.monotonic()
    return last


def _metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), 0.0)


if __name__ == "__main__":
    main()
