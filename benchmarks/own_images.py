"""Somebody else's photographs: seconds from `git clone` to the first right hit, without training and with it.

    python benchmarks/own_images.py        # grocery-store from SFSC_DATASETS; ten minutes, without pip's cache

A clone, and 200 photographs of 20 products in a folder of their own. Without training, `make demo IMAGES=FOLDER`,
the README's command, installs both environments, makes models/general and loads the folder. With it, the README's
commands install the package, train, evaluate, export and serve. Another photograph of a product is searched for
again and again; the hit is right once it is of that product.
"""

import argparse
import os
import resource
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile
from typing import Any

import httpx

from demo import ROOT, wait
from live_service import free_port
from main_job import unpack
from result_file import Figure, write_result

IDENTITIES, IMAGES_EACH = 20, 10
LIMIT_S, TRAINED_LIMIT_S = 300, 35 * 60
MOST_S = 2 * TRAINED_LIMIT_S
"""A machine that is slower than the limit is measured, too."""
TRAINED = """set -e
python3 -m venv environment
environment/bin/pip install --quiet '.[service,cpu,training,weights]'
PATH="$PWD/environment/bin:$PATH"
sfsc-train train photos --data {photos} --set name=mine
sfsc-train evaluate runs/mine --data {photos}
sfsc-train export runs/mine --data {photos} --to models/mine
exec sfsc demo --bundle models/mine --images {photos}
"""
"""The README's commands."""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        queries = draw(unpack("grocery-store", work) / "test", work / "photos")
        words = ["make", "demo", f"IMAGES={work / 'photos'}"]
        found = first_right_hit(work / "sfsc", words, queries)
        script = TRAINED.format(photos=shlex.quote(str(work / "photos")))
        publish(found, first_right_hit(work / "trained", ["bash", "-c", script], queries))


def publish(found: dict[str, Any], trained: dict[str, Any]) -> None:
    """Write the result."""
    figures = [
        Figure(
            "git clone to the first right hit on 200 own photographs", found["right hit"], "s", f"<= {LIMIT_S}"
        ),
        Figure("of it, until the bundle is made and the service is ready", found["ready"], "s"),
        Figure("until all 200 are in the gallery", found["loaded"], "s"),
        Figure("first hits that are right, of one further photograph of each product", found["rank1"], "%"),
        Figure("processor time of all of it, both environments installed", found["processor"], "s"),
        Figure("processes that wanted a core at the start and at the end, mean", found["load"], ""),
        Figure(
            "git clone to the first right hit, trained on the same photographs",
            trained["right hit"],
            "s",
            f"<= {TRAINED_LIMIT_S}",
        ),
        Figure("trained: first hits that are right", trained["rank1"], "%"),
        Figure("trained: widths of the bundle", len(trained["widths"]), ""),
    ]
    print("written to", write_result("own_images", figures, {"untrained": found, "trained": trained}))


def draw(source: Path, photos: Path) -> dict[str, Path]:
    """Copy the photographs into folders; returns one that is not among them for each identity."""
    queries = {}
    for identity in sorted(source.iterdir()):
        images = sorted(identity.iterdir())
        if len(images) > IMAGES_EACH and len(queries) < IDENTITIES:
            (photos / identity.name).mkdir(parents=True)
            for image in images[:IMAGES_EACH]:
                copyfile(image, photos / identity.name / image.name)
            queries[identity.name] = images[IMAGES_EACH]
    return queries


def first_right_hit(clone: Path, words: Sequence[str], queries: dict[str, Path]) -> dict[str, Any]:
    """Seconds since the clone began, and the share of right first hits once everything is loaded.

    Args:
        clone: folder to clone into, where `words` are typed.
    """
    port = free_port()
    environment = os.environ | {"SFSC_PORT": str(port), "PIP_NO_CACHE_DIR": "1"}
    environment.pop("PYTHONPATH", None)
    identity, image = next(iter(queries.items()))
    load = os.getloadavg()[0]
    total = IDENTITIES * IMAGES_EACH
    began = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    server = subprocess.Popen(words, cwd=clone, env=environment, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            ready = wait(server, lambda: client.get("/readyz").status_code == 200, MOST_S)
            right = wait(server, lambda: first_hit(client, image) == identity)
            loaded = wait(server, lambda: client.get("/widths").json()["gallery"]["items"] == total)
            widths = [width["width"] for width in client.get("/widths").json()["widths"]]
            hits = [first_hit(client, image) == identity for identity, image in queries.items()]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)
    times = {"ready": ready, "right hit": right, "loaded": loaded}
    seconds = {name: round(moment - began, 1) for name, moment in times.items()}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(seconds, flush=True)
    return seconds | {
        "rank1": 100 * sum(hits) / len(hits),
        "images": total,
        "widths": widths,
        "identities": len(queries),
        "processor": round(used.ru_utime + used.ru_stime, 1),
        "load": round((load + os.getloadavg()[0]) / 2, 1),
    }


def first_hit(client: httpx.Client, image: Path) -> str | None:
    """The identity of the best hit; None where there is none."""
    headers = {"content-type": "image/jpeg"}
    answer = client.post("/search?k=1", content=image.read_bytes(), headers=headers)
    hits = answer.raise_for_status().json()["hits"]
    return hits[0]["metadata"].get("identity") if hits else None


if __name__ == "__main__":
    main()
