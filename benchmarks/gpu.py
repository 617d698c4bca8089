"""Every check and timing on a GPU, in three parts; about eight minutes.

    python benchmarks/gpu.py                  # all parts whose packages are there
    python benchmarks/gpu.py --part runner    # a bundle's networks: parity with the CPU, images per second
    python benchmarks/gpu.py --part search    # extra `gpu`: the index, its parity with the CPU, timings
    python benchmarks/gpu.py --part training  # extra `training`: cost of a step, bfloat16 against float32
    python benchmarks/gpu.py --part training --short  # of the network of omniglot28, in seconds
    python benchmarks/gpu.py --device cpu     # the same path without a GPU, at toy size; the tests run this

A part whose package is missing says so and is left out. A check that fails ends with a sentence and exit code 1;
nothing is written then.
"""

import argparse
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal, assert_never, get_args

import numpy as np
import numpy.typing as npt

from result_file import Figure, write_result
from sfsc_bundle.errors import SfscError
from sfsc_bundle.folder import Bundle, open_bundle

if TYPE_CHECKING:
    from sfsc_bundle.runner import Acceleration
    from sfsc_service.store.embedded.index.faiss_rows import HostRows

BUCKETS = (1, 8, 32, 128)
PARITY = 0.999
Floats = npt.NDArray[np.float32]
Device = Literal["cpu", "cuda"]
Part = Literal["runner", "search", "training"]


def main() -> None:
    """Check, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=get_args(Device), default="cuda")
    parser.add_argument("--part", choices=get_args(Part), help="this part alone")
    parser.add_argument("--bundle", type=Path, default=Path("models/demo"))
    parser.add_argument("--vectors", type=int, default=200_000, help="rows of the index")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--short", action="store_true", help="training: cost of a step of one small network only")
    parser.add_argument("--dry", action="store_true", help="check and print, write nothing")
    arguments = parser.parse_args()
    done = 0
    for part in get_args(Part) if arguments.part is None else (arguments.part,):
        try:
            figures = figures_of(part, arguments)
        except ModuleNotFoundError as error:
            print(f"{part}: left out, {error.name} is not installed")
            continue
        except (SfscError, RuntimeError, AssertionError) as error:
            sys.exit(f"gpu.py: {error}")
        done += 1
        for figure in figures:
            print(f"{figure.name:60} {figure.value:12.4g} {figure.unit:10} {figure.goal or ''} {figure.met}")
        if not arguments.dry:
            name = f"gpu_{arguments.device}_{part}"
            print("written to", write_result(name, figures, {"device": device_name(arguments.device)}, seed=0))
    if not done:
        sys.exit("gpu.py: no part could run")


def figures_of(part: Part, arguments: argparse.Namespace) -> list[Figure]:
    """Run one part. Raises ModuleNotFoundError where a package that it needs is not installed."""
    device, repeats = arguments.device, arguments.repeats
    match part:
        case "runner":
            return networks(open_bundle(arguments.bundle), device, repeats)
        case "search":
            dimension = open_bundle(arguments.bundle).manifest.dimension
            return index(dimension, device, arguments.vectors, repeats)
        case "training":
            import gpu_training  # torch is not installed where only the service is

            whole = gpu_training.SHORT if arguments.short else gpu_training.WHOLE
            size = whole if device == "cuda" else gpu_training.TOY
            return gpu_training.training(device, size, repeats)
        case _:
            assert_never(part)


def networks(bundle: Bundle, device: Device, repeats: int) -> list[Figure]:
    """Every width in every bucket, with each acceleration: cosine with the CPU's vectors, and images per second.

    What has to run without its CUDA graph, or from memory that is not pinned, says so in the log.
    """
    from sfsc_bundle.runner import Acceleration, make_runner  # needs onnxruntime

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    size = bundle.manifest.preprocessing
    shape = (max(BUCKETS), size.height, size.width, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    plain, fastest = Acceleration(), Acceleration(cuda_graphs=True, half=True)
    figures = []
    for width in bundle.manifest.widths:
        reference = make_runner(bundle, width)(images)
        alone: dict[Acceleration, float] = {}
        for each in (plain, Acceleration(cuda_graphs=True), Acceleration(half=True), fastest):
            runner, what = (
                make_runner(bundle, width, device=device, acceleration=each),
                f"width {width}{named(each)}",
            )
            cosine = min(float((runner(images[:n]) * reference[:n]).sum(axis=1).min()) for n in BUCKETS)
            assert cosine >= PARITY, f"{what}: {device} and CPU have a cosine of {cosine:.5f}, below {PARITY}"
            figures.append(Figure(f"{what}: smallest cosine with the CPU", cosine, "", f">= {PARITY}"))
            for count in BUCKETS:
                batch = images[:count]
                took = timed(lambda runner=runner, batch=batch: runner(batch), repeats)
                alone.setdefault(each, took)
                figures.append(Figure(f"{what}, batches of {count}", count / took, "images/s"))
        goal = ">= 3" if device == "cuda" else None
        gain = alone[plain] / alone[fastest]
        figures.append(Figure(f"width {width}, one image: CUDA graph and half over neither", gain, "×", goal))
    return figures


def named(acceleration: "Acceleration") -> str:
    """What stands behind the width in the name of a figure."""
    return "".join(f", {name}" for name, on in asdict(acceleration).items() if on).replace(
        "cuda_graphs", "CUDA graph"
    )


def index(dimension: int, device: Device, rows: int, repeats: int) -> list[Figure]:
    """The device's index against the CPU's: same neighbours, and how long a search takes."""
    from sfsc_service.store.errors import StoreError  # needs faiss

    try:
        return _index(dimension, device, rows, repeats)
    except StoreError as error:
        raise RuntimeError(str(error)) from error


def _index(dimension: int, device: Device, rows: int, repeats: int) -> list[Figure]:
    random = np.random.default_rng(0)
    vectors = unit(random.standard_normal((rows, dimension), dtype=np.float32))
    queries = unit(random.standard_normal((64, dimension), dtype=np.float32))
    host, fast = filled(vectors, "cpu"), filled(vectors, device)
    figures = []
    for count, k in ((1, 10), (64, 10), (64, 1024)):
        wanted, found = host.search(queries[:count], k, None), fast.search(queries[:count], k, None)
        difference = float(np.abs(wanted[0] - found[0]).max())
        assert difference <= 1e-3, f"index: scores of {device} and CPU differ by {difference:.2e} at k = {k}"
        took = timed(lambda count=count, k=k: fast.search(queries[:count], k, None), repeats)
        figures.append(Figure(f"search {rows} rows, {count} queries, k = {k}", 1000 * took, "ms"))
    half = np.arange(rows) % 2 == 0
    positions = fast.search(queries, 10, half)[1]
    assert (positions % 2 == 0).all(), "index: a filtered search must stay among the rows of its filter"
    return figures


def filled(vectors: Floats, device: Device) -> "HostRows":
    """An index with all rows."""
    from sfsc_service.store.embedded.index.faiss_rows import make_index

    rows = make_index(vectors.shape[1], device, threads=2)
    rows.add(vectors)
    return rows


def device_name(device: Device) -> str:
    """What the device calls itself."""
    if device == "cpu":
        return device
    words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def unit(vectors: Floats) -> Floats:
    """Rows of unit length."""
    normalised: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalised


def timed(call: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call after a warm-up."""
    call()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return median(took)


if __name__ == "__main__":
    main()
