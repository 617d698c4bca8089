"""`sfsc add` beside the service's own bulk rate, and what a killed run leaves behind.

    python benchmarks/add.py            # some minutes: 10,000 JPEGs of 96 px, the demo bundle at two widths
    python benchmarks/add.py --quick    # 1,000 images, writes nothing

The bulk rate is that of NDJSON bodies which lie ready in memory, posted one after the other over one connection,
so the client computes nothing meanwhile. `sfsc add` is a process that finds, reads, hashes and encodes the same
files, its start included. The two take turns, each on an empty gallery, and who goes first changes from round to
round, so that what else the machine does meets both.
"""

import argparse
import base64
import json
import os
import resource
import signal
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import httpx
import numpy as np
from PIL import Image

from checkout import ROOT
from live_service import COMMAND, launched
from process_cost import cpu_ms
from result_file import Figure, write_result

WIDTHS = ("0.25", "1.0")
CALL_ITEMS = 256
SIDE = 96


def main() -> None:
    """Measure and write benchmarks/results/add.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/demo")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3, help="for each width")
    parser.add_argument("--quick", action="store_true", help="for development; writes nothing")
    arguments = parser.parse_args()
    images, rounds = (1000, 1) if arguments.quick else (arguments.images, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        photos = draw(work / "photos", images)
        found: dict[str, dict[str, list[Cost]]] = {width: {"bulk": [], "add": []} for width in WIDTHS}
        measures = {"bulk": bulk_cost, "add": add_cost}
        for number in range(rounds):
            for width in WIDTHS:
                for name in sorted(measures, reverse=number % 2 == 0):
                    cost = measures[name](arguments.bundle, work, photos, width)
                    found[width][name].append(cost)
                    print(f"round {number + 1}, width {width}, {name}: {cost}", flush=True)
        missing, double = killed_and_repeated(arguments.bundle, work, photos)
    figures = figures_of(found)
    figures += [
        Figure("images missing after a killed and repeated run", missing, "", "<= 0"),
        Figure("images that are there twice", double, "", "<= 0"),
    ]
    for figure in figures:
        print(f"{figure.name:55} {figure.value:9.3f} {figure.unit:9} {figure.goal or ''}")
    if not arguments.quick:
        costs = {
            width: {name: [asdict(cost) for cost in costs] for name, costs in both.items()}
            for width, both in found.items()
        }
        print(write_result("add", figures, {"images": images, "costs": costs}, seed=0))


@dataclass(frozen=True, slots=True)
class Cost:
    """`rate`: images a second; `client_ms`, `server_ms`: processor time for an image."""

    rate: float
    client_ms: float
    server_ms: float


def figures_of(found: dict[str, dict[str, list[Cost]]]) -> list[Figure]:
    """Both rates at each width, the median of their ratios, round by round, and processor times."""
    figures = []
    for width, both in found.items():
        pairs = list(zip(both["add"], both["bulk"], strict=True))
        figures += [
            Figure(f"bulk rate, width {width}", median(bulk.rate for _, bulk in pairs), "images/s"),
            Figure(f"sfsc add, width {width}", median(add.rate for add, _ in pairs), "images/s"),
            Figure(
                f"sfsc add ÷ bulk rate, width {width}",
                median(add.rate / bulk.rate for add, bulk in pairs),
                "×",
                ">= 0.9",
            ),
            Figure(
                f"processor time of sfsc add, width {width}",
                median(add.client_ms for add, _ in pairs),
                "ms an image",
            ),
            Figure(
                f"processor time of the server meanwhile, width {width}",
                median(add.server_ms for add, _ in pairs),
                "ms an image",
            ),
        ]
    return figures


def draw(folder: Path, images: int) -> Path:
    """Coarse patterns, as JPEGs in a hundred folders."""
    rng = np.random.default_rng(0)
    for n in range(images):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        path = folder / f"{n % 100:02}" / f"{n:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=85)
    return folder


def bulk_cost(bundle: Path, work: Path, photos: Path, width: str) -> Cost:
    """Of bodies that lie ready."""
    lines = [
        json.dumps({"id": path.name, "image": base64.b64encode(path.read_bytes()).decode()}).encode() + b"\n"
        for path in sorted(photos.rglob("*.jpg"))
    ]
    bodies = [b"".join(lines[at : at + CALL_ITEMS]) for at in range(0, len(lines), CALL_ITEMS)]
    with launched(bundle, work) as (client, pid):
        began, own, server = time.monotonic(), time.process_time(), cpu_ms(pid)
        for body in bodies:
            response = client.post(
                "/items",
                params={"width": width},
                content=body,
                headers={"Content-Type": "application/x-ndjson"},
            )
            assert response.raise_for_status().json()["failed"] == 0, response.text[:300]
        wall, used = time.monotonic() - began, 1000 * (time.process_time() - own)
        return Cost(len(lines) / wall, used / len(lines), (cpu_ms(pid) - server) / len(lines))


def add_cost(bundle: Path, work: Path, photos: Path, width: str) -> Cost:
    """Of the command, from its start to its end."""
    with launched(bundle, work) as (client, pid):
        began, children, server = time.monotonic(), children_ms(), cpu_ms(pid)
        added = json.loads(add(client, photos, "--json", "--width", width).communicate()[0])["added"]
        wall = time.monotonic() - began
        return Cost(added / wall, (children_ms() - children) / added, (cpu_ms(pid) - server) / added)


def children_ms() -> float:
    """Processor time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (used.ru_utime + used.ru_stime)


def killed_and_repeated(bundle: Path, work: Path, photos: Path) -> tuple[int, int]:
    """Images that are missing, and that are there twice, after a run that was killed and another one."""
    wanted = {path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg")}
    with launched(bundle, work) as (client, _):
        first = add(client, photos)
        while client.get("/widths").json()["gallery"]["items"] < len(wanted) // 3:
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
        add(client, photos).communicate()
        found = ids(client)
    return len(wanted - set(found)), len(found) - len(set(found))


def add(client: httpx.Client, photos: Path, *options: str) -> "subprocess.Popen[str]":
    """The command as a process."""
    words = [*COMMAND, "add", photos, "--url", str(client.base_url), *options]
    return subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def ids(client: httpx.Client) -> list[str]:
    """The ids of all items, page by page."""
    found, cursor = [], {}
    while True:
        page = client.get("/items", params={"limit": "1000", **cursor}).json()
        found += [item["id"] for item in page["items"]]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


if __name__ == "__main__":
    main()
