"""What the service does on its own: what healing costs requests, and what aligning brings to a mixed gallery.

    python benchmarks/idle_work.py [--bundle models/demo] [--items 12000] [--seconds 120] [--identities 100]
    python benchmarks/idle_work.py --quick    # for development; writes nothing

Healing: images stored at the narrowest width, by budget, are embedded again at the widest one when the service is
idle. Costs are known beforehand (`sfsc profile`). One client sends images for the narrowest width at random times,
so seldom that there are idle moments between; the same times without healing and with it. How much is healed then,
and when nobody asks anything.

Aligning: images of omniglot28's test identities, each at a width drawn at random; other images of the same
identities search for them. mAP over HTTP before `sfsc align` and after it, with queries of the narrowest and the
widest width. The vectors are those of the bundle, whatever it was trained for.
"""

import argparse
import base64
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from arrivals import arrivals
from live_service import launched, profiled
from milvus import AT_ONCE, Job, draw, insert, mean_ap, put_all, search_all
from result_file import Figure, write_result
from sfsc_bundle.folder import open_bundle
from untrained import images

ROOT = Path(__file__).parents[1]
SEED = 0
PER_SECOND = 1.5
"""Requests; the service counts as idle a quarter of a second after an answer."""
WARM_S, ALONE_S = 5.0, 10.0
DISTINCT = 256
LITTLE = 1e-6
"""GFLOP for an image: no width fits, so the narrowest is taken, by budget."""
LIMIT_S = 3_600.0


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "demo")
    parser.add_argument("--items", type=int, default=12_000, help="to be healed")
    parser.add_argument("--seconds", type=float, default=120, help="of requests, twice")
    parser.add_argument("--identities", type=int, default=100, help="of omniglot28, to be aligned on")
    parser.add_argument("--quick", action="store_true", help="for development; writes nothing")
    options = parser.parse_args()
    items, seconds = (400, 8.0) if options.quick else (options.items, options.seconds)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        figures, data = healing(options.bundle, work, items, seconds)
        more, data["align"] = aligning(options.bundle, work, 30 if options.quick else options.identities)
        figures += more
    for figure in figures:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit}", figure.goal or "", figure.met)
    if not options.quick:
        data |= {"bundle": str(options.bundle), "load average at the end": os.getloadavg()[0]}
        print("written to", write_result("idle_work", figures, data, seed=SEED))


def healing(bundle: Path, work: Path, items: int, seconds: float) -> tuple[list[Figure], dict[str, Any]]:
    """The same requests without healing and with it."""
    pictures, width = images(DISTINCT), open_bundle(bundle).manifest.widths[0]
    settings = {"SFSC_DATA": profiled(bundle, work), "SFSC_LOG_LEVEL": "warning"}
    with launched(bundle, work, SFSC_HEAL="off", **settings) as (client, _):
        for first in range(0, items, AT_ONCE):
            insert(client, [narrow(n, pictures) for n in range(first, min(first + AT_ONCE, items))])
        ask(client, pictures, width, WARM_S)
        without = ask(client, pictures, width, seconds)
    with launched(bundle, work, SFSC_HEAL="full", **settings) as (client, _):
        ask(client, pictures, width, WARM_S)
        before = healed(client)
        with_healing = ask(client, pictures, width, seconds)
        beside = healed(client) - before
        time.sleep(ALONE_S)
        alone = healed(client) - before - beside
        left = unchecked(client)
    p50, p99 = ([float(np.percentile(ms, share)) for ms in (without, with_healing)] for share in (50, 99))
    figures = [
        Figure("request beside healing, p99 ÷ without healing", p99[1] / p99[0], "×"),
        Figure("request beside healing, p99", p99[1], "ms"),
        Figure("request without healing, p99", p99[0], "ms"),
        Figure("request beside healing, median ÷ without healing", p50[1] / p50[0], "×"),
        Figure(f"healed beside {PER_SECOND:g} requests a second", beside / seconds, "items/s"),
        Figure("healed while nobody asks anything", alone / ALONE_S, "items/s"),
        Figure("items that were left to heal at the end", left, "items"),
    ]
    return figures, {"items": items, "seconds": seconds, "requests": len(without), "p50_ms": p50, "p99_ms": p99}


def narrow(number: int, pictures: list[bytes]) -> dict[str, Any]:
    """A line of a bulk call whose budget has room for no width."""
    image = base64.b64encode(pictures[number % len(pictures)]).decode()
    return {"id": f"narrow-{number:06}", "image": image, "gflops": LITTLE}


def ask(client: httpx.Client, pictures: list[bytes], width: str, seconds: float) -> list[float]:
    """Milliseconds of requests for a width at random moments, the same ones every time."""
    took = []
    began = time.monotonic()
    for number, moment in enumerate(arrivals("poisson", PER_SECOND, seconds, SEED)):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        once = time.perf_counter()
        image = pictures[number % len(pictures)]
        given: dict[str, Any] = {"params": {"width": width}, "headers": {"Content-Type": "image/jpeg"}}
        client.post("/embed", content=image, **given).raise_for_status()
        took.append(1e3 * (time.perf_counter() - once))
    return took


def healed(client: httpx.Client) -> float:
    return metric(client, r'sfsc_heal_items_total\{outcome="healed"\}')


def unchecked(client: httpx.Client) -> float:
    return metric(client, "sfsc_heal_unchecked_items")


def metric(client: httpx.Client, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    if found is None:
        sys.exit(f"the service has no metric {name}")
    return float(found[1])


def aligning(bundle: Path, work: Path, identities: int) -> tuple[list[Figure], dict[str, Any]]:
    """mAP of a gallery of mixed widths before and after."""
    widths = open_bundle(bundle).manifest.widths
    job = draw(identities, widths, SEED, work)
    asked = (widths[0], widths[-1])
    settings = {"SFSC_HEAL": "off", "SFSC_MAX_K": str(len(job.gallery))}
    with launched(bundle, work, SFSC_LOG_LEVEL="warning", **settings) as (client, _):
        put_all([client], job)
        name(client, job)
        before = search_all([client], job, asked)
        began = time.monotonic()
        client.post("/align", params={"field": "identity"}).raise_for_status()
        state = settled(client)
        took = time.monotonic() - began
        after = search_all([client], job, asked)
    figures = [
        Figure("align: until it is in force and all vectors have followed", took, "s"),
        Figure("align: whether the service found that it helps", float(state["fitted"] is not None), ""),
    ]
    for width in asked:
        scores = [mean_ap(found[width], job) for found in (before, after)]
        figures += [
            Figure(f"align: mAP of a mixed gallery, query at {width}, before", scores[0], "points"),
            Figure(f"align: mAP of a mixed gallery, query at {width}, gained", scores[1] - scores[0], "points"),
        ]
    return figures, {"gallery": len(job.gallery), "queries": len(job.queries), "state": state}


def name(client: httpx.Client, job: Job) -> None:
    """Write into each item's metadata what its image shows."""
    for place, identity in enumerate(job.gallery_labels.identity.tolist()):
        client.patch(f"/items/{place:06}", json={"metadata": {"identity": identity}}).raise_for_status()


def settled(client: httpx.Client) -> dict[str, Any]:
    """What `GET /align` says once there is nothing more to do."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.get("/align").json()
        if found["state"] == "resting":
            return found
        time.sleep(1)
    sys.exit(f"the gallery was not aligned within {LIMIT_S:g} s: {found}")


if __name__ == "__main__":
    main()
