"""Damaged requests against a real `sfsc serve`: no server error, no freeze, nothing that hangs.

    python benchmarks/fuzz.py                     # 100,000 requests
    python benchmarks/fuzz.py --requests 2000     # fewer; writes nothing

Each request has a connection of its own, because nobody knows where a damaged one ends: the client closes its
sending side and reads until the service closes the connection.
"""

import argparse
import asyncio
import mmap
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from live_service import launched
from loop_lag import GAUGE
from mixed_traffic import image
from mutations import Mutations
from result_file import Figure, write_result

LAG = Path(__file__).with_name("loop_lag.py")
REQUESTS = 100_000
AT_ONCE = 16
STUCK_S = 30.0
STATUS = re.compile(rb"HTTP/1\.1 ([2-5]\d\d) ")
SHOWN = 20


@dataclass
class Seen:
    """Statuses, 0 where there was none; the first requests that were answered with an error of the service."""

    statuses: Counter[int] = field(default_factory=Counter)
    stuck: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, request: bytes, heard: bytes) -> None:
        """Record what one request was answered."""
        found = [int(status) for status in STATUS.findall(heard)] or [0]
        self.statuses.update(found)
        # A deadline that cannot be kept is the one thing that a client may ask for and get a 5xx for.
        if max(found) >= 500 and b'"deadline_' not in heard and len(self.failures) < SHOWN:
            self.failures.append(f"{request[:2000]!r} → {heard[:1000]!r}")

    @property
    def server_errors(self) -> int:
        """How many answers were errors of the service, deadlines included."""
        return sum(count for status, count in self.statuses.items() if status >= 500)


def main() -> None:
    """Send the requests and write benchmarks/results/fuzz.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("models/demo"))
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        lag = Path(name) / "lag"
        lag.write_bytes(GAUGE.pack(0.0))
        command = [sys.executable, LAG, lag]
        with (
            launched(arguments.bundle, Path(name), command, SFSC_LOG_LEVEL="error") as (client, _),
            lag.open("r+b") as file,
            mmap.mmap(file.fileno(), GAUGE.size) as gauge,
        ):
            GAUGE.pack_into(gauge, 0, 0.0)
            images = [image(0, 48, "JPEG"), image(1, 64, "PNG"), b"no image", b"", b"\xff\xd8\xff"]
            drawn = Mutations(arguments.seed, images)
            host, port = client.base_url.host, client.base_url.port or 80
            seen = asyncio.run(send_all(host, port, drawn, arguments.requests))
            freeze_ms = 1000 * GAUGE.unpack_from(gauge)[0]
            client.get("/readyz").raise_for_status()
    figures = [
        Figure("requests", arguments.requests, "requests", f">= {REQUESTS}"),
        Figure("server errors, but for deadlines", len(seen.failures), "answers", "<= 0"),
        Figure(f"requests that were not answered within {STUCK_S:g} s", seen.stuck, "requests", "<= 0"),
        Figure("longest freeze of the event loop", round(freeze_ms, 1), "ms", "<= 50"),
    ]
    for figure in figures:
        print(f"{figure.name:60} {figure.value:10} {figure.unit:10} {figure.met}")
    print(dict(sorted(seen.statuses.items())), *seen.failures, sep="\n")
    if arguments.requests >= REQUESTS:
        statuses = {str(status): count for status, count in sorted(seen.statuses.items())}
        data = {"statuses": statuses, "server_errors": seen.server_errors, "failures": seen.failures}
        print(write_result("fuzz", figures, data, seed=arguments.seed))


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
