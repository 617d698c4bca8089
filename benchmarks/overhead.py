"""What the service costs beyond the network: CPU of the server per image ÷ CPU of the computation alone.

    python benchmarks/overhead.py             # an untrained ResNet-18 at 128 px, and models/demo
    python benchmarks/overhead.py --quick     # shorter and less often, writes nothing
    python benchmarks/overhead.py --against ../before    # CPU per request against another checkout's service

16 keep-alive clients of wrk send rendered JPEGs of 128 px; scheduler, limits and metrics are on. Right after each
load the floor (floor.py) decodes, preprocesses and runs the same images in batches of the mean size that the
server's metrics report, in as many processes as the service has workers. Medians of repetitions.

`--against` runs the services of both checkouts in this environment, in turn (paired.py).
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bodies import Bodies, draw
from checkout import Checkout
from floor import floor_ms
from live_service import launched, profiled
from load import post
from paired import LEAST_ROUNDS, Side, interval, ratios, take_turns
from process_cost import cpu_ms
from result_file import Figure, write_result
from sfsc_service.engine.threads import split_threads
from sfsc_service.settings import Settings
from untrained import untrained_bundle

BUNDLE = Path("runs/untrained-resnet18")
DEMO = Path("models/demo")
GOALS = {("0.25", "single"): "<= 1.30", ("1.0", "single"): "<= 1.04", ("0.25", "bulk"): "<= 1.08"}
AGAINST_WIDTHS = ("0.25", "1.0")
AGAINST_GOAL = "<= 1.02 or the interval holds 1"
MULTIPART = "bulk, multipart"
CASES = (("0.25", "single"), ("1.0", "single"), ("0.25", "bulk, JSON"), ("0.25", MULTIPART))


@dataclass(frozen=True, slots=True)
class Trial:
    """One load and its floor. `batch`: mean images in a batch; the rest CPU milliseconds per image."""

    served_ms: float
    floor_ms: float
    batch: float
    per_second: float

    @property
    def ratio(self) -> float:
        """Server ÷ floor."""
        return self.served_ms / self.floor_ms


def main() -> None:
    """Measure and write benchmarks/results/overhead.json or overhead_against.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="exported there where it is missing")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions, of which the median is taken")
    parser.add_argument("--quick", action="store_true", help="for development; writes nothing")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another working tree of this repository")
    parser.add_argument("--pairs", type=int, default=12, help=f"with --against; at least {LEAST_ROUNDS}")
    arguments = parser.parse_args()
    if arguments.against is not None:
        if arguments.pairs < LEAST_ROUNDS:
            parser.error(f"--pairs: must be at least {LEAST_ROUNDS}, found {arguments.pairs}")
        against(arguments)
        return
    bundles = {"ResNet-18": untrained_bundle(arguments.bundle).folder, "demo": DEMO}
    repeats, seconds = (1, 2) if arguments.quick else (arguments.repeats, 3)
    with tempfile.TemporaryDirectory() as folder:
        trials = measure(bundles, draw(Path(folder)), Path(folder), repeats, seconds)
    figures = [
        figure for (name, width, how), found in trials.items() for figure in figured(name, width, how, found)
    ]
    for figure in figures:
        print(f"{figure.name:60} {figure.value:8.3f} {figure.unit:10} {figure.goal or ''}")
    if not arguments.quick:
        data = {", ".join(case): [asdict(trial) for trial in found] for case, found in trials.items()}
        print(write_result("overhead", figures, {"repeats": repeats, "seconds": seconds, "trials": data}, seed=0))


def against(arguments: argparse.Namespace) -> None:
    """Compare with another checkout's service; settings are those that both know."""
    this, other = Checkout(), Checkout(arguments.against)
    sides = {
        name: Side(checkout.command("sfsc"), {"PYTHONPATH": checkout.python_path})
        for name, checkout in (("this", this), ("other", other))
    }
    pairs, seconds = (1, 2) if arguments.quick else (arguments.pairs, 6)
    bundle = untrained_bundle(arguments.bundle).folder
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        costs = take_turns(
            sides, bundle, draw(work)["single"], work, widths=AGAINST_WIDTHS, rounds=pairs, seconds=seconds
        )
    figures = []
    for width, found in costs.items():
        both = ratios(found["this"], found["other"])
        name = f"CPU per request at {width}, this ÷ {other.commit}"
        figures.append(Figure(name, median(both), "×", AGAINST_GOAL, interval(both)))
        figures += [Figure(f"CPU per request at {width}, {side}", median(found[side]), "ms") for side in sides]
    for figure in figures:
        print(f"{figure.name:60} {figure.value:8.3f} {figure.unit:10} {figure.interval or ''} {figure.goal or ''}")
    if not arguments.quick:
        data = {"this": this.commit, "other": other.commit, "pairs": pairs, "seconds": seconds, "cpu_ms": costs}
        print(write_result("overhead_against", figures, data, seed=0))


def measure(
    bundles: dict[str, Path], bodies: dict[str, Bodies], work: Path, repeats: int, seconds: int
) -> dict[tuple[str, str, str], list[Trial]]:
    """Measure every case in each repetition; the services keep running throughout."""
    cases = [(name, *case) for name in bundles for case in CASES if name != "demo" or case[1] != MULTIPART]
    trials: dict[tuple[str, str, str], list[Trial]] = {case: [] for case in cases}
    with ExitStack() as stack:
        services = {
            name: stack.enter_context(launched(bundle, work, SFSC_DATA=profiled(bundle, work)))
            for name, bundle in bundles.items()
        }
        for _ in range(repeats):
            for name, width, how in cases:
                client, pid = services[name]
                found = trial(client, pid, bundles[name], width, bodies[how], bodies["single"], seconds)
                trials[name, width, how].append(found)
    return trials


def trial(
    client: httpx.Client, pid: int, bundle: Path, width: str, sent: Bodies, alone: Bodies, seconds: int
) -> Trial:
    """One load, then the floor at the batch size that it led to."""
    encoding = "float" if sent.images == 1 else "base64"  # bulk clients take base64, which is cheaper
    url = str(client.base_url.join(f"/embed?width={width}&encoding={encoding}"))
    post(url, sent.paths, 1, kind=sent.kind)  # warm caches and allocators
    before, began = batches(client, width), cpu_ms(pid)
    load = post(url, sent.paths, seconds, kind=sent.kind)
    spent = cpu_ms(pid) - began
    count, images = (after - first for after, first in zip(batches(client, width), before, strict=True))
    workers, _ = split_threads(Settings().thread_count, "cpu")
    floor = floor_ms(bundle, width, images / count, 0.7 * seconds, alone.paths, workers)
    return Trial(spent / images, floor, images / count, load.per_second * sent.images)


def batches(client: httpx.Client, width: str) -> tuple[float, float]:
    """How many batches of a width there were, and how many images in them."""
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name.startswith("sfsc_batch_images") and sample.labels.get("width") == width:
                found[sample.name.removeprefix("sfsc_batch_images_")] = sample.value
    return found["count"], found["sum"]


def figured(name: str, width: str, how: str, trials: list[Trial]) -> Iterator[Figure]:
    """Medians of one case."""
    case = f"{name} at {width}, {how}"
    goal = GOALS.get((width, how.partition(",")[0])) if name != "demo" else None
    yield Figure(f"{case}: server ÷ floor", median(trial.ratio for trial in trials), "×", goal)
    yield Figure(f"{case}: floor", median(trial.floor_ms for trial in trials), "ms/image")
    yield Figure(f"{case}: server", median(trial.served_ms for trial in trials), "ms/image")
    yield Figure(f"{case}: batch", median(trial.batch for trial in trials), "images")
    yield Figure(f"{case}: throughput", median(trial.per_second for trial in trials), "images/s")


if __name__ == "__main__":
    main()
