"""Images of 128 px, 2 MP and 12 MP from bytes to vector, beside LitServe and BentoML at the narrowest width.

    python benchmarks/peers_sizes.py            # ten minutes on a quiet machine; needs wrk
    python benchmarks/peers_sizes.py --quick    # for development; writes nothing

The peers decode once as most services do, all pixels with Pillow and then a resize, and once as this service does,
at the smallest scale that the network needs. Each peer is tried with one and with two worker processes (as
benchmarks/peers.py found them best), and the better one counts at each size. The JPEGs are noise with the spectrum
of photographs. 16 keep-alive clients on the same cores, servers one after the other, in two rounds: of each, the
trial with the most images a second counts.
"""

import argparse
import io
import itertools
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import httpx
from PIL import Image

from bodies import Bodies, single
from decode import synthetic_photograph
from live_service import launched
from peers import OURS, PACKAGES, VARIANTS, Options, Trial, best, environment, peer_serving, trial
from result_file import Figure, write_result
from untrained import untrained_bundle

WIDTH = "0.25"
SIDES = {"128 px": (128, 128), "2 MP": (1632, 1224), "12 MP": (4000, 3000)}
GOALS = {("12 MP", "usual"): ">= 2.5", ("2 MP", "usual"): ">= 1.2"}
AS_OURS = ">= 1.1"
SECONDS = {"128 px": 3, "2 MP": 6, "12 MP": 12}
ROUNDS = 2
DECODINGS = {"usual": "decoding as usual", "ours": "decoding as ours"}

BySize = dict[str, Trial]


def main() -> None:
    """Measure and write benchmarks/results/peers_sizes.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("runs/untrained-resnet18"))
    parser.add_argument("--quick", action="store_true", help="for development; writes nothing")
    arguments = parser.parse_args()
    bundle = untrained_bundle(arguments.bundle).folder
    for peer in PACKAGES:
        environment(peer)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bodies = draw(folder)
        tried: dict[str, list[BySize]] = defaultdict(list)
        for _ in range(1 if arguments.quick else ROUNDS):
            tried[OURS].append(measure(OURS, launched(bundle, folder), bodies))
            for peer, decoding in itertools.product(PACKAGES, DECODINGS):
                for one in variants(peer)[: 1 if arguments.quick else None]:
                    serving = peer_serving(peer, bundle, WIDTH, {**one, "DECODE": decoding})
                    tried[f"{peer}, {DECODINGS[decoding]}"].append(measure(peer, serving, bodies))
    figures = figured({server: {size: best_of(found, size) for size in SIDES} for server, found in tried.items()})
    for figure in figures:
        print(f"{figure.name:75} {figure.value:9.3f} {figure.unit:9} {figure.goal or ''} {figure.met}")
    if not arguments.quick:
        data = {
            server: [{size: asdict(one) for size, one in by_size.items()} for by_size in found]
            for server, found in tried.items()
        }
        print(write_result("peers_sizes", figures, {"seconds": SECONDS, "rounds": ROUNDS, "trials": data}, seed=0))


def draw(folder: Path) -> dict[str, dict[str, Bodies]]:
    """A few photographs of each size, as raw bodies and as forms."""
    photographs = [Image.open(io.BytesIO(synthetic_photograph(seed))) for seed in range(2)]
    found = {}
    for size, sides in SIDES.items():
        files = []
        for photograph in photographs:
            content = io.BytesIO()
            photograph.resize(sides, Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
            files.append(content.getvalue())
        (into := folder / size.replace(" ", "")).mkdir()
        found[size] = single(files, into)
    return found


def variants(peer: str) -> list[Options]:
    """The best configuration for small images, and the best of those with another number of processes."""
    first = best(peer, WIDTH)
    other = next(one for one in VARIANTS[peer] if one["WORKERS"] != first["WORKERS"])
    return [first, other]


def measure(
    server: str,
    serving: AbstractContextManager[tuple[httpx.Client, int]],
    bodies: Mapping[str, Mapping[str, Bodies]],
) -> BySize:
    """Every size on one server."""
    found = {}
    with serving as (client, pid):
        for size, sent in bodies.items():
            found[size] = trial(server, client, pid, WIDTH, sent, SECONDS[size])
            print(server, size, found[size], flush=True)
    return found


def best_of(found: list[BySize], size: str) -> Trial:
    """The trial with the most images a second."""
    return max((by_size[size] for by_size in found), key=lambda one: one.per_second)


def figured(found: Mapping[str, BySize]) -> list[Figure]:
    """Each server's figures, and ours over the better peer's, for each way to decode."""
    figures = []
    for size in SIDES:
        for server, by_size in found.items():
            figures += [
                Figure(f"{size}: {server}", by_size[size].per_second, "images/s"),
                Figure(f"{size}: {server}, CPU per image", by_size[size].cpu_ms, "ms"),
            ]
        ours = found[OURS][size]
        for decoding, label in DECODINGS.items():
            peers = [by_size[size] for server, by_size in found.items() if server.endswith(label)]
            goal = AS_OURS if decoding == "ours" else GOALS.get((size, decoding))
            ratio = ours.per_second / max(one.per_second for one in peers)
            cpu = ours.cpu_ms / min(one.cpu_ms for one in peers)
            figures += [
                Figure(f"{size}: images a second, ours ÷ the better peer {label}", ratio, "×", goal),
                Figure(f"{size}: CPU per image, ours ÷ the better peer {label}", cpu, "×"),
            ]
    return figures


if __name__ == "__main__":
    main()
