"""Every check and timing on a GPU, in four parts; about eight minutes.

    python benchmarks/gpu.py                  # all parts whose packages are there
    python benchmarks/gpu.py --part runner    # a bundle's networks: parity with the CPU, images per second
    python benchmarks/gpu.py --part service   # extras `service` and `gpu`: over HTTP, beside this machine's CPU
    python benchmarks/gpu.py --part search    # extra `gpu`: the index against the CPU's, and other kinds
    python benchmarks/gpu.py --part search --vectors 10000000    # 5 GB of vectors, and as much on the device
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
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, assert_never, get_args

import numpy as np

from gpu_timing import timed
from result_file import Figure, write_result
from sfsc_bundle.errors import SfscError
from sfsc_bundle.folder import Bundle, open_bundle

if TYPE_CHECKING:
    from sfsc_bundle.runner import Acceleration

BUCKETS = (1, 8, 32, 128)
PARITY = 0.999
Device = Literal["cpu", "cuda"]
Part = Literal["runner", "service", "search", "training"]


def main() -> None:
    """Check, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=get_args(Device), default="cuda")
    parser.add_argument("--part", choices=get_args(Part), help="this part alone")
    parser.add_argument("--bundle", type=Path, default=Path("models/demo"))
    parser.add_argument("--vectors", type=int, default=200_000, help="rows of the index")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=3.0, help="service: of each load")
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
        except (SfscError, RuntimeError, AssertionError, OSError) as error:
            sys.exit(f"gpu.py: {error}")
        done += 1
        for figure in figures:
            print(f"{figure.name:60} {figure.value:12.4g} {figure.unit:10} {figure.goal or ''} {figure.met}")
        if not arguments.dry:
            short = "_short" if arguments.short and part == "training" else ""
            name = f"gpu_{arguments.device}_{part}{short}"
            print("written to", write_result(name, figures, {"device": device_name(arguments.device)}, seed=0))
    if not done:
        sys.exit("gpu.py: no part could run")


def figures_of(part: Part, arguments: argparse.Namespace) -> list[Figure]:
    """Run one part. Raises ModuleNotFoundError where a package that it needs is not installed."""
    device, repeats = arguments.device, arguments.repeats
    match part:
        case "runner":
            return networks(open_bundle(arguments.bundle), device, repeats)
        case "service":
            import gpu_service  # the service is not installed where only training is

            return gpu_service.service(arguments.bundle, device, arguments.seconds)
        case "search":
            import gpu_search  # needs faiss

            dimension = open_bundle(arguments.bundle).manifest.dimension
            return gpu_search.search(dimension, device, arguments.vectors, repeats)
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


def device_name(device: Device) -> str:
    """What the device calls itself."""
    if device == "cpu":
        return device
    words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
