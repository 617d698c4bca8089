"""Training by two processes against one, at one thread each, and the memory that a training from shards takes.

    python benchmarks/processes.py               # ten minutes; wants a machine with two idle cores
    python benchmarks/processes.py --part memory # or --part scaling
    python benchmarks/processes.py --toy         # the same path in seconds; writes nothing

Scaling: the same recipe, batch and two micro-batches, by one process with one thread and by two with one thread
each, started by torchrun on loopback; batches are prepared in the process that computes. Runs of one and of two
take turns. A step is timed by the first process; the first steps do not count.
Memory: the peak of anonymous memory (RssAnon) of a training process, above what it has before it reads the data.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from result_file import Figure, write_result

GOAL = ">= 0.8"
WARM_UPS = 2
SMALL = {"backbone": "resnet10t", "stem": "3x3", "stem_stride": 2, "dimension": 128}
CASES = (
    (
        "resnet10t, 64 px, batch 48",
        SMALL | {"arguments": {"stem_type": "", "channels": [32, 64, 128, 256]}},
        64,
        48,
        6,
    ),
)
TOY = (("toy", SMALL | {"arguments": {"stem_type": "", "channels": [8, 8, 16, 16]}}, 32, 8, 2),)
INDEXED = 100_000  # images of the index whose memory is measured
PIXELS = 128


def main() -> None:
    """Measure the parts, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["scaling", "memory", "both"], default="both")
    parser.add_argument("--rounds", type=int, default=2, help="runs of one and of two processes, in turns")
    parser.add_argument("--images", type=int, default=4000, help="of the set whose memory is measured")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--worker", nargs=3, metavar=("RECIPE", "DATA", "RUN"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(*map(Path, arguments.worker))
        return
    if arguments.toy:
        arguments.rounds, arguments.images = 1, 100
    busy = os.getloadavg()[0]
    if busy > 0.5:
        print(
            f"the machine is shared: {busy:.1f} processes wanted a core on average in the last minute", flush=True
        )
    figures: list[Figure] = []
    data: dict[str, Any] = {"load_before": round(busy, 2), "shared": busy > 0.5}
    with TemporaryDirectory() as folder:
        if arguments.part != "memory":
            found = [scaling(Path(folder), arguments.rounds, *case) for case in (TOY if arguments.toy else CASES)]
            figures += [figure for some, _ in found for figure in some]
            data["seconds_per_step"] = {name: took for _, (name, took) in found}
        if arguments.part != "scaling":
            figures += memory(Path(folder), arguments.images)
    data["load_after"] = round(os.getloadavg()[0], 2)
    for figure in figures:
        print(f"{figure.name:72} {figure.value:10.4g} {figure.unit:8} {figure.goal or ''} {figure.met}")
    if not arguments.toy:
        print("written to", write_result("processes", figures, data, seed=0))


def scaling(
    folder: Path, rounds: int, name: str, network: dict[str, Any], pixels: int, batch: int, steps: int
) -> tuple[list[Figure], tuple[str, dict[str, list[float]]]]:
    """Images per second of one process and of two, and the share of twice the former that the latter reach."""
    place = folder / f"images-{pixels}"
    if not place.exists():
        draw(place, identities=20, each=8, pixels=pixels)
    recipe = folder / f"{pixels}.json"
    recipe.write_text(
        json.dumps(
            {
                "name": "processes",
                "network": network,
                "data": {"height": pixels, "width": pixels, "validation_share": 0},
                "optimiser": {"batch": batch, "micro_batches": 2, "steps": WARM_UPS + steps, "warmup_steps": 0},
                "augmentation": {"flip": 0.5, "crop_scale": [0.75, 1.0]},
            }
        )
    )
    took: dict[str, list[float]] = {"one": [], "two": []}
    for number in range(rounds):
        for count, processes in enumerate(took, 1):
            took[processes] += timed(count, recipe, place, folder / f"run-{pixels}-{processes}-{number}")
    one, two = (batch / median(seconds) for seconds in took.values())
    return [
        Figure(f"{name}: one process, one thread", one, "images/s"),
        Figure(f"{name}: two processes, one thread each", two, "images/s"),
        Figure(f"{name}: two processes, share of twice the speed of one", two / one / 2, "×", GOAL),
    ], (name, {processes: [round(s, 4) for s in seconds] for processes, seconds in took.items()})


def timed(count: int, recipe: Path, data: Path, run: Path) -> list[float]:
    """Seconds of each step but the first ones, by so many processes."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    words = [sys.executable, *torchrun, __file__, "--worker", str(recipe), str(data), str(run)]
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(words, env=os.environ | one, check=True, stdout=subprocess.DEVNULL)
    ends = json.loads((run / "ends.json").read_text())
    return [after - before for before, after in zip(ends[WARM_UPS - 1 :], ends[WARM_UPS:], strict=False)]


def work(recipe_file: Path, data: Path, run: Path) -> None:
    """Train, as one of the processes; the first one writes when each step ended."""
    from rich.console import Console

    from sfsc_training import loop
    from sfsc_training.config import parse_recipe
    from sfsc_training.data.read import read_dataset

    ends: list[float] = []
    update = loop.update_weights

    def noted(*words: Any) -> float:
        rate = update(*words)
        ends.append(time.monotonic())
        return rate

    loop.update_weights = noted
    recipe = parse_recipe(json.loads(recipe_file.read_text()))
    dataset = read_dataset(data, recipe.data, recipe.seed)
    loop.train(recipe, dataset, run, Console(quiet=True), loop.RunOptions(threads=1, workers=0))
    if os.environ.get("RANK", "0") == "0":
        (run / "ends.json").write_text(json.dumps(ends))


def memory(folder: Path, count: int) -> list[Figure]:
    """What a set takes when it is kept decoded, and when it is read from shards for each batch."""
    images, shards = folder / "many", folder / "shards"
    draw(images, identities=count // 10, each=10, pixels=PIXELS)
    command = [
        sys.executable,
        "-m",
        "sfsc_training",
        "shards",
        str(images),
        "--to",
        str(shards),
        "--shard-mib",
        "8",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    kept = in_a_process(peak_of_training, images, 8.0, folder / "kept")
    read = in_a_process(peak_of_training, shards, 0.001, folder / "read")
    decoded = count * PIXELS**2 * 3
    return [
        Figure(f"{count} images decoded, {PIXELS} px", decoded / 2**20, "MiB"),
        Figure("training, decoded images kept: peak of anonymous memory", kept / 2**20, "MiB"),
        Figure("training from shards, decoded for each batch: the same", read / 2**20, "MiB"),
        Figure("what shards save, over the decoded images", (kept - read) / decoded, "×", ">= 0.8"),
        Figure(f"an image of a data set in shards ({INDEXED} of them)", bytes_of_an_image(folder), "B"),
    ]


def peak_of_training(data: Path, gib: float, run: Path) -> float:
    """Bytes of anonymous memory at the peak of a training of a few steps, above those before the data is read."""
    from rich.console import Console

    from sfsc_training.config import parse_recipe
    from sfsc_training.data.read import read_dataset
    from sfsc_training.datasets import decode_for_training
    from sfsc_training.loop import RunOptions, train

    section = {"height": PIXELS, "width": PIXELS, "max_cache_gib": gib, "validation_share": 0}
    network = SMALL | {"arguments": {"stem_type": "", "channels": [8, 8, 16, 16]}}
    optimiser = {"batch": 32, "steps": 10, "warmup_steps": 0}
    recipe = parse_recipe({"name": "memory", "data": section, "network": network, "optimiser": optimiser})
    quiet = Console(quiet=True)
    with peak() as most:
        dataset = read_dataset(data, recipe.data, recipe.seed)
        dataset, images = decode_for_training(dataset, recipe, quiet)
        train(recipe, dataset, run, quiet, RunOptions(threads=1, workers=0), images=images)
    return most()


def bytes_of_an_image(folder: Path) -> float:
    """Anonymous memory of a data set of so many images, which are listed and not there, over their number."""
    from sfsc_training.data.shards.index import INDEX, Header, IndexedImage, IndexedShard

    place = folder / "listed"
    place.mkdir()
    (place / "shard-000000.tar").touch()
    listed = [
        IndexedImage(
            name=f"train/identity{number // 10:06d}/image{number:07d}.jpg",
            identity=f"identity{number // 10:06d}",
            offset=number * 10240 + 512,
            size=8000,
            sha256=f"{number:064x}",
        )
        for number in range(INDEXED)
    ]
    lines = (
        Header(shards=("shard-000000.tar",)),
        IndexedShard(shard="shard-000000.tar", bytes=0, images=tuple(listed)),
    )
    (place / INDEX).write_text("".join(line.model_dump_json() + "\n" for line in lines))
    del listed, lines
    return float(in_a_process(_held, place))


def _held(place: Path) -> float:
    from sfsc_training.config import DataSection
    from sfsc_training.data.read import read_dataset

    before = anonymous()
    dataset = read_dataset(place, DataSection(test_share=0, validation_share=0), 0)
    assert len(dataset.train.paths) == INDEXED
    return (anonymous() - before) / INDEXED


def draw(folder: Path, *, identities: int, each: int, pixels: int) -> None:
    """Images of noise, in a folder per identity."""
    random = np.random.default_rng(0)
    for split, count in (("train", identities), ("test", 2)):
        for number in range(count):
            place = folder / split / f"{split}{number:05d}"
            place.mkdir(parents=True)
            for shot in range(each):
                coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                content = io.BytesIO()
                Image.fromarray(coarse).resize((pixels, pixels)).save(content, "JPEG")
                (place / f"{shot}.jpg").write_bytes(content.getvalue())


def in_a_process(function: Any, *arguments: Any) -> float:
    """The result of a function in a process of its own, which has read no data before."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(function, arguments))


@contextmanager
def peak() -> Iterator[Any]:
    """Yields a function that says, after the block, the peak of anonymous memory in it above that before it."""
    before, most, over = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], anonymous())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield lambda: most[0] - before
    finally:
        over.set()
        watching.join()


def anonymous() -> int:
    """Bytes of anonymous memory that this process has."""
    lines: Sequence[str] = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


if __name__ == "__main__":
    main()
