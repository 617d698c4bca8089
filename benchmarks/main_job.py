"""The main job on real images: train → export → serve → insert a mixed gallery → search over HTTP → score.

    python benchmarks/main_job.py omniglot28        # or grocery-store; data sets from SFSC_DATASETS

Every step is the command that a user types. The gallery's widths are drawn once into a file that the evaluation
and the HTTP side both read; rank-1 and mAP are then computed from the answers of the service and compared with the
evaluation's for the same mixed gallery. An interrupted run is resumed.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.progress import track

from live_service import serving
from result_file import Figure, write_result
from sfsc_bundle.folder import open_bundle
from sfsc_bundle.retrieval import Scores, evaluate_order
from sfsc_service.client import Client
from sfsc_training.config import load_recipe
from sfsc_training.data.dataset import Split
from sfsc_training.data.reader import read_folder

# What needs no training reaches on these sets: the best of 16×16 pixels, HOG and colour histogram, mAP in points.
UNTRAINED = {"omniglot28": 18.8, "grocery-store": 31.5}
GOALS = {"omniglot28": ">= 38.8", "grocery-store": None}
PROMISE_STEP = 0.01  # points
BIN = Path(sys.executable).parent


def main() -> None:
    """Do the whole job for one data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=sorted(UNTRAINED))
    parser.add_argument("--work", type=Path, default=Path("runs/main-job"), help="folder for runs and bundles")
    parser.add_argument("--seed", type=int, default=0, help="of the gallery's widths")
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}
    work = arguments.work / arguments.dataset
    work.mkdir(parents=True, exist_ok=True)
    data = unpack(arguments.dataset, arguments.work)
    recipe = load_recipe(f"{arguments.dataset}-sfsc")
    split = read_folder(data, recipe.data, recipe.seed).test
    run, bundle, assignment = work / "run", work / f"{arguments.dataset}-sfsc", work / "assignment.json"
    draw_widths(split, recipe.width_names, assignment, arguments.seed)
    with timed(seconds, "train"):
        command("sfsc-train", "train", recipe.name, "--data", data, "--out", run)
    with timed(seconds, "evaluate"):
        command("sfsc-train", "evaluate", run, "--data", data, "--assignment", assignment)
    with timed(seconds, "export"):
        command("sfsc-train", "export", run, "--data", data, "--to", bundle, "--replace")
    widths: dict[str, str] = json.loads(assignment.read_text())
    with serving(bundle, work, len(split.gallery)) as client:
        with timed(seconds, "insert"):
            insert(client, split, widths)
        with timed(seconds, "search"):
            found = {width: search_all(client, split, width) for width in recipe.width_names}
        promises = promised(client, split.paths[split.query[0]], recipe.width_names)
    publish(arguments.dataset, run, bundle, split, found, promises, seconds, arguments.seed)


def unpack(name: str, work: Path) -> Path:
    """The data set's folder, unpacked where only its archive is at hand."""
    sets = Path(os.environ.get("SFSC_DATASETS", "../shared/data"))
    if (sets / name).is_dir():
        return sets / name
    folder = work / "data" / name
    if not folder.is_dir():
        archive = sets / f"{name}.tar"
        if not archive.is_file():
            sys.exit(f"{archive} is not there: set SFSC_DATASETS to the folder that holds {name}.tar")
        with tarfile.open(archive) as tar:
            tar.extractall(folder.parent, filter="data")
    return folder


def draw_widths(split: Split, widths: tuple[str, ...], path: Path, seed: int) -> None:
    """Write gallery image → width, each drawn at random."""
    drawn = np.random.default_rng(seed).choice(widths, size=len(split.gallery))
    names = [split.names[place] for place in split.gallery]
    path.write_text(json.dumps(dict(zip(names, drawn.tolist(), strict=True)), indent=0))


def command(*words: object) -> None:
    """Run one of the project's commands."""
    print("$", *words, flush=True)
    subprocess.run([BIN / str(words[0]), *map(str, words[1:])], check=True)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Record how long a part took; of a resumed run, only the rest."""
    began = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - began, 1)


def insert(client: httpx.Client, split: Split, widths: dict[str, str]) -> None:
    """PUT every gallery image at the width that the assignment gives it."""

    def put(place: int) -> None:
        name = split.names[place]
        patient.put(name, split.paths[place], width=widths[name])

    with Client(str(client.base_url)) as patient, ThreadPoolExecutor(8) as pool:
        for _ in track(pool.map(put, split.gallery), "inserting", total=len(split.gallery)):
            pass


def search_all(client: httpx.Client, split: Split, width: str) -> Scores:
    """Send every query image at one width with k = the gallery's size, and score the rankings that come back."""
    position = {split.names[place]: number for number, place in enumerate(split.gallery)}

    def search(place: int) -> Any:
        answer = patient.search(split.paths[place], k=len(position), width=width)
        assert answer["query"]["width"] == width
        order = np.array([position[hit["id"]] for hit in answer["hits"]], dtype=np.int64)
        assert len(set(order.tolist())) == len(position)
        return order

    with Client(str(client.base_url)) as patient, ThreadPoolExecutor(4) as pool:
        found = list(track(pool.map(search, split.query), f"queries at {width}", total=len(split.query)))
    labels = split.labels()
    return evaluate_order([np.stack(found)], labels.take(split.query), labels.take(split.gallery))


def promised(client: httpx.Client, image: Path, widths: tuple[str, ...]) -> dict[str, float]:
    """By width, the highest `min_quality` that the service says to keep with it or a narrower one, in points."""
    content = image.read_bytes()
    kind = "image/png" if image.suffix == ".png" else "image/jpeg"

    def kept(quality: float, widest: str) -> bool:
        options = {"min_quality": quality, "k": 1}
        answer = client.post("/search", params=options, content=content, headers={"content-type": kind})
        answer.raise_for_status()
        query = answer.json()["query"]
        return bool(query["budget_met"]) and widths.index(query["width"]) <= widths.index(widest)

    found = {}
    for width in widths:
        low, high = 0.0, 100.0
        while high - low > PROMISE_STEP:
            middle = (low + high) / 2
            low, high = (middle, high) if kept(middle, width) else (low, middle)
        found[width] = low
    return found


def publish(
    name: str,
    run: Path,
    bundle: Path,
    split: Split,
    http: dict[str, Scores],
    promises: dict[str, float],
    seconds: dict[str, float],
    seed: int,
) -> None:
    """Compare both sides and write the result."""
    evaluated = json.loads((run / "evaluation-test.json").read_text())
    matrix = np.array(evaluated["mean_ap"])
    diagonal = np.diag(matrix)
    gap = max(
        min(diagonal[i], diagonal[j]) - matrix[i, j]
        for i in range(len(matrix))
        for j in range(len(matrix))
        if i != j
    )
    differences = [abs(http[width].mean_ap - evaluated["mixed"][width]["mean_ap"]) for width in http]
    figures = [
        Figure("smallest entry of the mAP matrix", float(matrix.min()), "points", GOALS[name]),
        Figure("mean of the mAP matrix", float(matrix.mean()), "points", f"> {UNTRAINED[name]}"),
        Figure("cross-test under the lower self-test, worst pair", float(gap), "points", "<= 4"),
        Figure(
            "HTTP against evaluation, mixed gallery, largest mAP difference", max(differences), "points", "<= 0.05"
        ),
        Figure(
            "`min_quality` that the service promises − mAP over HTTP, worst width",
            max(promises[width] - http[width].mean_ap for width in http),
            "points",
            "<= 1",
        ),
        *(Figure(f"mAP over HTTP, mixed gallery, query {width}", http[width].mean_ap, "points") for width in http),
        *(
            Figure(f"rank-1 over HTTP, mixed gallery, query {width}", http[width].rank1, "points")
            for width in http
        ),
        *(Figure(f"time: {part}", value, "s") for part, value in seconds.items()),
    ]
    manifest = open_bundle(bundle).manifest
    data = {
        "evaluation": evaluated,
        "http": {width: {"mean_ap": score.mean_ap, "rank1": score.rank1} for width, score in http.items()},
        "min_quality": promises,
        "untrained_mean_ap": UNTRAINED[name],
        "identities": len(split.identities),
        "submodels": [
            {"width": part.width, "gmacs": part.macs / 1e9, "parameters": part.parameters}
            for part in manifest.submodels
        ],
        "recipe": manifest.provenance.recipe,
        "images_per_s_last": json.loads((run / "history.jsonl").read_text().splitlines()[-1])["images_per_s"],
    }
    print("written to", write_result(f"main_job_{name}", figures, data, seed=seed))


if __name__ == "__main__":
    main()
