"""Damaged requests against a real `sfsc serve`: no server error, no freeze, nothing that hangs.

    python benchmarks/fuzz.py                     # 100,000 requests, in pieces; run again, it goes on
    python benchmarks/fuzz.py --requests 2000     # fewer; writes nothing

Each piece has a service and a seed of its own. What was found in it lies in runs/fuzz until all are done.
Each request has a connection of its own, because nobody knows where a damaged one ends: the client closes its
sending side and reads until the service closes the connection.
"""

import argparse
import asyncio
import json
import mmap
import re
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from live_service import launched
from loop_lag import GAUGE
from mixed_traffic import image
from mutations import Mutations
from result_file import Figure, write_result
from sfsc_bundle.atomic_file import write_file

LAG = Path(__file__).with_name("loop_lag.py")
REQUESTS = 100_000
PIECE = 5_000
PIECES = Path("runs/fuzz")
AT_ONCE = 16
STUCK_S = 30.0
STATUS = re.compile(rb"HTTP/1\.1 ([2-5]\d\d) ")
SHOWN = 20


@dataclass
class Seen:
    """Statuses, 0 where there was none; the first requests that were answered with an error of the service.

    `unforeseen`: exceptions that the service had not foreseen, whether or not somebody was still there to be told.
    `freeze_ms`, `own_freeze_ms`: the longest freeze of the event loop, and as far as the service computed.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    stuck: int = 0
    unforeseen: int = 0
    failures: list[str] = field(default_factory=list)
    freeze_ms: float = 0.0
    own_freeze_ms: float = 0.0

    def add(self, request: bytes, heard: bytes) -> None:
        """Record what one request was answered."""
        found = [int(status) for status in STATUS.findall(heard)] or [0]
        self.statuses.update(found)
        # A deadline that cannot be kept is the one thing that a client may ask for and get a 5xx for.
        if max(found) >= 500 and b'"deadline_' not in heard and len(self.failures) < SHOWN:
            self.failures.append(f"{request[:2000]!r} → {heard[:1000]!r}")

    def merge(self, other: "Seen") -> None:
        """Add what another piece has found."""
        self.statuses.update(other.statuses)
        self.stuck += other.stuck
        self.unforeseen += other.unforeseen
        self.failures += other.failures
        self.freeze_ms = max(self.freeze_ms, other.freeze_ms)
        self.own_freeze_ms = max(self.own_freeze_ms, other.own_freeze_ms)

    @property
    def server_errors(self) -> int:
        """How many answers were errors of the service, deadlines included."""
        return sum(count for status, count in self.statuses.items() if status >= 500)


def main() -> None:
    """Send the requests and write benchmarks/results/fuzz.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("models/demo"))
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--seed", type=int, default=0, help="of the first piece; each further one has the next")
    arguments = parser.parse_args()
    seen = Seen()
    for number, begin in enumerate(range(0, arguments.requests, PIECE)):
        requests, seed = min(PIECE, arguments.requests - begin), arguments.seed + number
        kept = PIECES / f"{seed}-{requests}.json"
        found = read_piece(kept) if kept.exists() else piece(arguments.bundle, seed, requests)
        if arguments.requests >= REQUESTS and not kept.exists():
            PIECES.mkdir(parents=True, exist_ok=True)
            write_file(kept, json.dumps(vars(found)).encode())
        print(f"{begin + requests} requests: {found}", flush=True)
        seen.merge(found)
    figures = figured(arguments.requests, seen)
    for figure in figures:
        print(f"{figure.name:60} {figure.value:10} {figure.unit:10} {figure.met}")
    if arguments.requests >= REQUESTS:
        statuses = {str(status): count for status, count in sorted(seen.statuses.items())}
        data = {"statuses": statuses, "server_errors": seen.server_errors, "failures": seen.failures}
        print(write_result("fuzz", figures, data, seed=arguments.seed))
        shutil.rmtree(PIECES)


def piece(bundle: Path, seed: int, requests: int) -> Seen:
    """Send a part of the requests to a service of its own."""
    with tempfile.TemporaryDirectory() as name:
        lag = Path(name) / "lag"
        lag.write_bytes(GAUGE.pack(0.0, 0.0))
        command = [sys.executable, LAG, lag]
        with (
            launched(bundle, Path(name), command, SFSC_LOG_LEVEL="error") as (client, _),
            lag.open("r+b") as file,
            mmap.mmap(file.fileno(), GAUGE.size) as gauge,
        ):
            GAUGE.pack_into(gauge, 0, 0.0, 0.0)
            images = [image(0, 48, "JPEG"), image(1, 64, "PNG"), b"no image", b"", b"\xff\xd8\xff"]
            host, port = client.base_url.host, client.base_url.port or 80
            seen = asyncio.run(send_all(host, port, Mutations(seed, images), requests))
            seen.freeze_ms, seen.own_freeze_ms = (1000 * seconds for seconds in GAUGE.unpack_from(gauge))
            seen.unforeseen = int(problems(client, "internal_error"))
            client.get("/readyz").raise_for_status()
    return seen


def problems(client: httpx.Client, code: str) -> float:
    """How many problems of a code the service has counted."""
    for family in text_string_to_metric_families(client.get("/metrics").raise_for_status().text):
        for sample in family.samples:
            if sample.name == "sfsc_problems_total" and sample.labels["code"] == code:
                return sample.value
    raise LookupError(f"the service counts no problems of the code {code}")


def read_piece(kept: Path) -> Seen:
    """What an earlier run has found in a piece."""
    found = json.loads(kept.read_bytes())
    statuses = Counter({int(status): count for status, count in found.pop("statuses").items()})
    return Seen(statuses, **found)


def figured(requests: int, seen: Seen) -> list[Figure]:
    """What was found, with the goals."""
    return [
        Figure("requests", requests, "requests", f">= {REQUESTS}"),
        Figure("server errors, but for deadlines", len(seen.failures), "answers", "<= 0"),
        Figure("exceptions that the service had not foreseen", seen.unforeseen, "exceptions", "<= 0"),
        Figure(f"requests that were not answered within {STUCK_S:g} s", seen.stuck, "requests", "<= 0"),
        Figure("longest freeze of the event loop", round(seen.freeze_ms, 1), "ms", "<= 50"),
        Figure("longest freeze, as far as the service computed", round(seen.own_freeze_ms, 1), "ms"),
    ]


async def send_all(host: str, port: int, drawn: Mutations, requests: int) -> Seen:
    """Send as many requests, a few at a time."""
    seen = Seen()
    left = iter(range(requests))

    async def caller() -> None:
        for _ in left:
            request = drawn.draw()
            try:
                async with asyncio.timeout(STUCK_S):
                    seen.add(request, await send(host, port, request))
            except TimeoutError:
                seen.stuck += 1
                seen.failures.append(f"stuck: {request[:2000]!r}")

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return seen


async def send(host: str, port: int, request: bytes) -> bytes:
    """Everything that the service says to one request on a connection of its own."""
    reader, writer = await asyncio.open_connection(host, port)
    heard = b""
    try:
        writer.write(request)
        writer.write_eof()
        while part := await reader.read(2**16):
            heard += part
    except OSError:  # the service has cut the connection, perhaps before it had read everything
        pass
    finally:
        writer.close()
    return heard


if __name__ == "__main__":
    main()
