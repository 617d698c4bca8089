"""The service over Milvus: does it find what the embedded store finds, and what does it cost beside bare pymilvus?

    python benchmarks/milvus.py --python .venv-milvus/bin/python [--bundle models/demo] [--identities 100]

Over HTTP on loopback, on a real Milvus (PyPI's, which that Python runs) and on milvus-lite; two replicas on each.
The test split of omniglot28 as the main job has it: a gallery of mixed widths, half of it put by each replica, and
every query sent to one of them with k = the gallery's size. The vectors are those of the bundle, whatever it was
trained for.

Overhead: CPU of the service's process for a search by vector, and for a put of many vectors, beside the CPU of a
process that makes the same calls of pymilvus with the same rows; and, for a search, the CPU of the service's store
used without HTTP, to tell both apart. Milvus's own CPU counts on neither side.
"""

import argparse
import base64
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.progress import track

from live_service import free_port, launched, wait_idle
from main_job import unpack
from process_cost import cpu_ms
from result_file import Figure, write_result
from sfsc_bundle.folder import open_bundle
from sfsc_bundle.retrieval import Labels, evaluate_order
from sfsc_service.client.arrow import ARROW, arrow_body
from sfsc_service.store.milvus.address import read_address
from sfsc_service.store.milvus.store import MilvusStore
from sfsc_training.config import load_recipe
from sfsc_training.data.reader import read_folder

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.service.store.milvus_galleries import lite_process, real_server  # noqa: E402

AT_ONCE = 200
COLLECTION = "sfsc_gallery"
"""The name of a service's gallery in Milvus."""
TIE = 1e-5
"""Scores that differ by no more may change places: both sides sum up in an order of their own."""
HITS = 10
SEARCHES, ROWS = 300, 2_000
NDJSON = {"Content-Type": "application/x-ndjson"}


@dataclass(frozen=True, slots=True)
class Job:
    """Images of the gallery with the widths they are embedded at, queries, and who shows what."""

    gallery: list[Path]
    widths: list[str]
    queries: list[Path]
    gallery_labels: Labels
    query_labels: Labels


Found = dict[str, list[list[tuple[int, float]]]]
"""Width of the query → for each query the places in the gallery and the scores, best first."""


def main() -> None:
    """Compare, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python", type=Path, required=True, help="a Python with PyPI's milvus (make test-milvus)"
    )
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "demo")
    parser.add_argument("--identities", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["SFSC_MILVUS_PYTHON"] = str(arguments.python.absolute())
    widths = open_bundle(arguments.bundle).manifest.widths
    figures, data = list[Figure](), dict[str, Any]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = draw(arguments.identities, widths, arguments.seed, folder)
        asked = (widths[0], widths[-1])
        with replicas(arguments.bundle, folder / "embedded", 1, job) as (client,):
            put_all([client[0]], job)
            expected = search_all([client[0]], job, asked)
        for kind, server in servers(folder).items():
            with server as address, replicas(arguments.bundle, folder / kind, 2, job, SFSC_STORE=address) as pair:
                clients = [client for client, _ in pair]
                put_all(clients, job)
                wait_until_all_see(clients, len(job.gallery))
                found = search_all(clients, job, asked)
                figures += compared(kind, expected, found, job)
                wait_idle(pair[0][1])
                more, data[kind] = overhead(kind, clients[0], pair[0][1], address)
                figures += more
    data |= {"bundle": str(arguments.bundle), "gallery": len(job.gallery), "queries": len(job.queries)}
    for figure in figures:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit} (goal {figure.goal}, met: {figure.met})")
    print("written to", write_result("milvus", figures, data, seed=arguments.seed))


def draw(identities: int, widths: Sequence[str], seed: int, work: Path) -> Job:
    """The first identities of the test split; a width for each image of the gallery, at random."""
    recipe = load_recipe("omniglot28-sfsc")
    whole = read_folder(unpack("omniglot28", work), recipe.data, recipe.seed).test
    split = whole.take_identities(np.arange(min(identities, len(whole.identities))))
    drawn = np.random.default_rng(seed).choice(widths, size=len(split.gallery))
    labels = split.labels()
    return Job(
        [split.paths[place] for place in split.gallery],
        drawn.tolist(),
        [split.paths[place] for place in split.query],
        labels.take(split.gallery),
        labels.take(split.query),
    )


def servers(folder: Path) -> dict[str, Any]:
    """By kind, what starts it and tells its address."""

    @contextmanager
    def lite() -> Iterator[str]:
        port = free_port()
        with lite_process(folder / "lite", port):
            yield f"milvus://127.0.0.1:{port}/default"

    (folder / "real").mkdir()
    return {"Milvus 2.3.5": real_server(folder / "real"), "milvus-lite": lite()}


@contextmanager
def replicas(
    bundle: Path, work: Path, count: int, job: Job, **settings: str
) -> Iterator[list[tuple[httpx.Client, int]]]:
    """Services that share a gallery, and their processes."""
    work.mkdir()
    shared = {"SFSC_IMAGE_FOLDER": str(work / "images"), "SFSC_MAX_K": str(len(job.gallery)), "SFSC_HEAL": "off"}
    with ExitStack() as parts:
        yield [
            parts.enter_context(
                launched(
                    bundle, work, **shared, **settings, SFSC_DATA=str(work / f"{n}"), SFSC_LOG_LEVEL="warning"
                )
            )
            for n in range(count)
        ]


def put_all(clients: Sequence[httpx.Client], job: Job) -> None:
    """The gallery in bulk calls, by the replicas in turn."""
    for first in track(range(0, len(job.gallery), AT_ONCE), "inserting"):
        places = range(first, min(first + AT_ONCE, len(job.gallery)))
        lines = [
            {
                "id": f"{place:06}",
                "image": base64.b64encode(job.gallery[place].read_bytes()).decode(),
                "width": job.widths[place],
            }
            for place in places
        ]
        insert(clients[first // AT_ONCE % len(clients)], lines)


def insert(client: httpx.Client, lines: Sequence[dict[str, Any]]) -> None:
    answer = client.post("/items", content="\n".join(map(json.dumps, lines)), headers=NDJSON)
    answer.raise_for_status()
    assert answer.json()["failed"] == 0, answer.text[:1000]


def wait_until_all_see(clients: Sequence[httpx.Client], items: int) -> None:
    """What a replica did not write itself, it sees within half a minute, as docs/scale.md says."""
    deadline = time.monotonic() + 60
    for client in clients:
        while client.get("/widths").json()["gallery"]["items"] != items:
            assert time.monotonic() < deadline, "a replica does not see all items"
            time.sleep(0.5)


def search_all(clients: Sequence[httpx.Client], job: Job, widths: Sequence[str]) -> Found:
    """Every query at these widths with k = the gallery's size, by the replicas in turn."""

    def search(query: tuple[int, str]) -> list[tuple[int, float]]:
        number, width = query
        answer = clients[number % len(clients)].post(
            "/search",
            params={"width": width, "k": len(job.gallery)},
            content=job.queries[number].read_bytes(),
            headers={"Content-Type": "image/png"},
        )
        answer.raise_for_status()
        return [(int(hit["id"]), hit["score"]) for hit in answer.json()["hits"]]

    found = {}
    with ThreadPoolExecutor(2) as pool:
        for width in widths:
            queries = [(number, width) for number in range(len(job.queries))]
            found[width] = list(track(pool.map(search, queries), f"queries at {width}", total=len(queries)))
    return found


def compared(kind: str, expected: Found, found: Found, job: Job) -> list[Figure]:
    """Both rankings: mean average precision, and hits beyond ties."""
    figures = []
    for width, rankings in found.items():
        ours, theirs = (mean_ap(one[width], job) for one in (expected, found))
        different = sum(not same_hits(a, b) for a, b in zip(expected[width], rankings, strict=True))
        figures += [
            Figure(
                f"{kind}: mAP at {width} less that of the embedded store", abs(ours - theirs), "points", "<= 0.05"
            ),
            Figure(f"{kind}: mAP at {width}", theirs, "points"),
            Figure(f"{kind}: queries at {width} with other hits", different, "queries", "<= 0"),
        ]
    return figures


def mean_ap(rankings: Sequence[Sequence[tuple[int, float]]], job: Job) -> float:
    order = np.array([[place for place, _ in ranking] for ranking in rankings], dtype=np.int64)
    assert order.shape == (len(job.queries), len(job.gallery)), "every item must be found by every query"
    return evaluate_order([order], job.query_labels, job.gallery_labels).mean_ap


def same_hits(ours: Sequence[tuple[int, float]], theirs: Sequence[tuple[int, float]]) -> bool:
    """Whether the best hits are the same with the same scores, but for the order of ties."""
    score = dict(ours)
    return len(ours) == len(theirs) and all(
        abs(mine[1] - other[1]) <= TIE and abs(score[other[0]] - other[1]) <= TIE
        for mine, other in zip(ours[:HITS], theirs[:HITS], strict=True)
    )


def overhead(kind: str, client: httpx.Client, pid: int, address: str) -> tuple[list[Figure], dict[str, float]]:
    """CPU milliseconds for a search by vector and for a put of a vector: the service's, and bare pymilvus's."""
    about = client.get("/widths").json()
    vectors = np.random.default_rng(0).normal(size=(ROWS, about["dim"])).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    width = about["widths"][-1]["width"]
    stored = [{"vector": vector.tolist(), "width": width, "space": about["space"]} for vector in vectors]
    bodies = [json.dumps(one | {"k": HITS}) for one in stored[:SEARCHES]]
    lines = [one | {"id": f"put-{n:06}"} for n, one in enumerate(stored)]
    arrow = [
        arrow_body([line["id"] for line in lines[first : first + AT_ONCE]], vectors[first : first + AT_ONCE], None)
        for first in range(0, ROWS, AT_ONCE)
    ]
    kept = {"Content-Type": "application/json"}

    def searches() -> None:
        for body in bodies:
            client.post("/search", content=body, headers=kept).raise_for_status()

    def puts() -> None:
        for first in range(0, ROWS, AT_ONCE):
            insert(client, lines[first : first + AT_ONCE])

    def arrow_puts() -> None:
        for body in arrow:
            options = {"width": width, "space": about["space"]}
            answer = client.post("/items", content=body, params=options, headers={"Content-Type": ARROW})
            assert answer.raise_for_status().json()["failed"] == 0

    idle_ms = _idle_ms_per_s(pid)
    served = {
        "search": _cpu(searches, lambda: cpu_ms(pid), idle_ms) / SEARCHES,
        "put, Arrow": _cpu(arrow_puts, lambda: cpu_ms(pid), idle_ms) / ROWS,
        "put, JSON": _cpu(puts, lambda: cpu_ms(pid), idle_ms) / ROWS,
    }
    bare = bare_pymilvus(address, vectors, width, about["space"])
    in_process = search_in_process(address, vectors[:SEARCHES], about["space"])
    figures = [Figure(f"{kind}: idle service", idle_ms, "CPU ms/s")]
    figures += [Figure(f"{kind}: {name}, bare pymilvus", ms, "CPU ms") for name, ms in bare.items()]
    figures += [
        Figure(f"{kind}: search, the store without a service", in_process, "CPU ms"),
        Figure(
            f"{kind}: search, the store without a service ÷ bare pymilvus", in_process / bare["search"], "times"
        ),
    ]
    for name, ms in served.items():
        times = ms / bare[name.partition(",")[0]]
        figures += [
            Figure(f"{kind}: {name}, service", ms, "CPU ms"),
            Figure(f"{kind}: {name}, service ÷ bare pymilvus", times, "times", "<= 1.2"),
        ]
    return figures, {"searches": SEARCHES, "rows": ROWS, "rows at once": AT_ONCE}


def bare_pymilvus(address: str, vectors: Any, width: str, space: str) -> dict[str, float]:
    """CPU ms of this process for the same calls on the same collection, an item each."""
    from pymilvus import MilvusClient

    client = MilvusClient(address.replace("milvus://", "http://").removesuffix("/default"), dedicated=True)
    rows = [
        {
            "id": f"put-{n:06}",
            "vector": vector,
            "space": space,
            "width": width,
            "reason": "",
            "metadata": "{}",
            "fields": {},
            "image": "",
            "media_type": "",
            "created": 0,
        }
        for n, vector in enumerate(vectors)
    ]
    fields = ["space", "width", "metadata", "image"]

    def searches() -> None:
        for vector in vectors[:SEARCHES]:
            parameters = {"metric_type": "IP", "params": {}}
            client.search(COLLECTION, [vector], limit=HITS, output_fields=fields, search_params=parameters)

    def puts() -> None:
        for first in range(0, ROWS, AT_ONCE):
            client.upsert(COLLECTION, rows[first : first + AT_ONCE])

    puts()  # connections, and the collection's schema, are there afterwards
    searches()
    clock = lambda: 1000 * time.process_time()  # noqa: E731
    found = {"search": _cpu(searches, clock, 0.0) / SEARCHES, "put": _cpu(puts, clock, 0.0) / ROWS}
    client.close()
    return found


def search_in_process(address: str, vectors: Any, space: str) -> float:
    """CPU ms of this process for a search by the store that the service has, without HTTP."""
    with (
        tempfile.TemporaryDirectory() as images,
        closing(MilvusStore(read_address(address), COLLECTION, images, space, vectors.shape[1])) as store,
    ):

        def searches() -> None:
            for vector in vectors:
                store.search_approximately(vector[None], HITS)

        return _cpu(searches, lambda: 1000 * time.process_time(), 0.0) / len(vectors)


def _cpu(work: Callable[[], None], clock: Callable[[], float], idle_ms: float) -> float:
    """CPU milliseconds of some work, done once before to warm up, less what is used anyway."""
    work()
    before, began = clock(), time.monotonic()
    work()
    return clock() - before - idle_ms * (time.monotonic() - began)


def _idle_ms_per_s(pid: int, seconds: float = 20.0) -> float:
    """What a service uses without requests: a canary every few seconds, looks at Milvus."""
    before = cpu_ms(pid)
    time.sleep(seconds)
    return (cpu_ms(pid) - before) / seconds


if __name__ == "__main__":
    main()
