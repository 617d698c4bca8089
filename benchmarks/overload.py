"""Overload: attainment against expected mAP, of every static width, of the scheduler, and of a clairvoyant bound.

    python benchmarks/overload.py BUNDLE           # about a quarter of an hour; --quick: two
    BUNDLE: a trained ResNet-18 at 128 px; recipe vehicles-resnet18 (docs/training.md)
    python benchmarks/overload.py                  # an untrained one, with the expected mAP of the result before

What a width costs does not depend on the weights, and what the scheduler takes it to be worth is in the manifest.

One service, one load generator in a process of its own on the same cores (its share is one of the figures). Loads
are multiples of what the service can do at width 1.0, measured by a closed loop right before each pattern of each
load: machines are shared, and a multiple of what was possible ten minutes ago says little.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import httpx

from arrivals import PATTERNS, arrivals
from live_service import BIN, launched
from open_loop import Offered, offer, saturate
from oracle import best_quality
from overload_figures import OURS, figures
from overload_plot import plot
from process_cost import cpu_ms
from result_file import write_result
from sfsc_bundle.folder import open_bundle, write_bundle
from sfsc_service.engine.policy import WidthCatalog, expected_quality
from sfsc_service.engine.threads import split_threads
from sfsc_service.settings import Settings
from sfsc_vehicles import CAMERAS, make_identity, render_jpeg
from untrained import untrained_bundle

LOADS = (0.5, 0.6, 1.0, 2.0, 3.0, 6.0)
QUIET_LOADS = 0.6
SLO_MS = 100.0
QUEUE = 1.5
"""Times the SLO: docs/operations.md says so of services whose late answers are worth nothing."""
IMAGES = 32
CLIENTS = 16
UNTRAINED = Path("runs/untrained-resnet18")
RESULT = Path(__file__).parent / "results" / "overload.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each run takes, how often the scheduler's are repeated, and which there are."""

    static_s: float = 6.0
    ours_s: float = 6.0
    repeats: int = 2
    capacity_s: float = 1.5
    loads: tuple[float, ...] = LOADS
    patterns: tuple[str, ...] = tuple(PATTERNS)


QUICK = Plan(4.0, 4.0, 1, 2.0, (0.6, 1.0, 3.0), ("poisson", "bursty"))


@dataclass(frozen=True, slots=True)
class Machine:
    """What was measured of the service before the runs: costs[width][images] in ms."""

    client: httpx.Client
    pid: int
    bodies: list[Path]
    points: Mapping[str, float]
    costs: Mapping[str, Mapping[str, float]]
    slo_ms: float
    workers: int

    @property
    def port(self) -> int:
        port = self.client.base_url.port
        assert port is not None
        return port

    def full_per_s(self, seconds: float) -> float:
        """Answers a second at width 1.0 now, the median of three measurements."""
        path = "/embed?width=1.0"
        return median(saturate(self.port, path, CLIENTS, seconds, self.bodies) for _ in range(3))


def main() -> None:
    """Measure, write, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few short runs, for development; writes nothing")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else Plan()
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle or stand_in(Path(folder) / "bundle")
        run(bundle, Path(folder), plan, arguments)


def trained_at() -> str:
    """The commit at which the widths were worth what the result before says."""
    result = json.loads(RESULT.read_text())
    of = result["data"].get("expected mAP of", "this bundle")
    return str(of) if of != "this bundle" else f"{result['command']}, commit {result['commit']}"


def stand_in(folder: Path) -> Path:
    """An untrained bundle whose widths are worth what those of the trained one were in the result before."""
    bundle = untrained_bundle(UNTRAINED)
    points = json.loads(RESULT.read_text())["data"]["expected mAP"]
    widths = bundle.manifest.quality.widths
    rows = tuple((points[width],) * len(widths) for width in widths)
    quality = bundle.manifest.quality.model_copy(update={"mean_ap": rows})
    manifest = bundle.manifest.model_copy(update={"quality": quality})
    files = {one.file: (bundle.folder / one.file).read_bytes() for one in manifest.submodels}
    return write_bundle(folder, manifest, files).folder


def run(bundle: Path, folder: Path, plan: Plan, arguments: argparse.Namespace) -> None:
    """Measure one bundle; write and plot."""
    with measured(bundle, folder) as machine:
        print(f"SLO {machine.slo_ms:.0f} ms", flush=True)
        runs = list(measure(machine, plan, arguments.seed))
        about = {
            "requests/s at width 1.0": median(run["full_per_s"] for run in runs),
            "slo_ms": machine.slo_ms,
            "workers": machine.workers,
            "batch_ms": machine.costs,
            "expected mAP": machine.points,
            "expected mAP of": "this bundle" if arguments.bundle else trained_at(),
        }
    found = figures(runs, machine.slo_ms)
    for figure in found:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit} (goal {figure.goal}, met: {figure.met})")
    if not arguments.quick:
        plot(runs, Path(__file__).parents[1] / "docs" / "overload.png")
        print("written to", write_result("overload", found, {**about, "runs": runs}, seed=arguments.seed))


@contextmanager
def measured(bundle: Path, folder: Path) -> Iterator[Machine]:
    """A service of the bundle with its costs measured."""
    bodies = []
    for n in range(IMAGES):
        bodies.append(folder / f"{n}.jpg")
        bodies[-1].write_bytes(render_jpeg(0, make_identity(0, n), n % CAMERAS, 0, 128))
    data = folder / "data"
    subprocess.run([BIN / "sfsc", "profile", bundle, "--data", data], check=True)
    document = json.loads((data / "costs.json").read_text())
    costs = {
        width: {images: cell["median_ms"] for images, cell in cells.items()}
        for width, cells in document["costs"].items()
    }
    slo_ms = max(SLO_MS, 5 * costs["1.0"]["1"])
    settings = {
        "SFSC_DATA": str(data),
        "SFSC_SLO_MS": str(slo_ms),
        "SFSC_QUEUE_MS": str(QUEUE * slo_ms),
        "SFSC_LOG_LEVEL": "warning",
    }
    with launched(bundle, folder, **settings) as (client, pid):
        port = client.base_url.port
        assert port is not None
        saturate(port, "/embed?width=1.0", CLIENTS, 1.0, bodies)
        offered = WidthCatalog.of(open_bundle(bundle).manifest)
        points = {width: expected_quality(offered, width, {}) for width in offered.widths}
        workers, _ = split_threads(Settings().thread_count, "cpu")
        yield Machine(client, pid, bodies, points, costs, slo_ms, workers)


def measure(machine: Machine, plan: Plan, seed: int) -> Iterator[dict[str, Any]]:
    """Every pattern and load: each static width once, the scheduler several times with other arrivals."""
    for load in plan.loads:
        for pattern in plan.patterns:
            full_per_s = machine.full_per_s(plan.capacity_s)
            static = [] if load < QUIET_LOADS else [(width, 0, plan.static_s) for width in machine.points]
            for policy, repeat, seconds in [*static, *((OURS, n, plan.ours_s) for n in range(plan.repeats))]:
                times = arrivals(pattern, load * full_per_s, seconds, seed + repeat)
                run = one_run(machine, policy, times) | {"full_per_s": round(full_per_s, 1)}
                yield {"pattern": pattern, "load": load, "policy": policy, "repeat": repeat, **run}
                print(f"{load:>4} × {full_per_s:.0f}/s {pattern:8} {policy:9}", _short(run), flush=True)


def one_run(machine: Machine, policy: str, times: list[float]) -> dict[str, Any]:
    """Offer one load to one policy; the queue is empty before and after."""
    path = "/embed" if policy == OURS else f"/embed?width={policy}"
    before = cpu_ms(machine.pid)
    offered = offer(machine.port, path, times, machine.bodies)
    server_ms = cpu_ms(machine.pid) - before
    time.sleep(0.3)
    return outcome(machine, policy, times, offered) | {
        "generator cores": round(offered.cpu_s / offered.seconds, 3),
        "server cores": round(server_ms / 1000 / offered.seconds, 3),
        "server ms per request": round(server_ms / len(times), 3),
    }


def outcome(machine: Machine, policy: str, times: list[float], offered: Offered) -> dict[str, Any]:
    """What the clients saw. Quality is the mean expected mAP of what was answered in time."""
    answered = [one for one in offered.answers if one.status == 200]
    in_time = [one for one in answered if one.latency_ms <= machine.slo_ms]
    attainment = len(in_time) / len(times)
    latencies = sorted(one.latency_ms for one in offered.answers)
    widths = Counter(one.width for one in answered)
    bound = (
        best_quality(times, machine.slo_ms / 1000, _cheapest(machine), machine.points, machine.workers, attainment)
        if policy == OURS
        else None
    )
    return {
        "requests": len(times),
        "attainment": round(attainment, 5),
        "quality": round(mean(machine.points[one.width] for one in in_time), 4) if in_time else None,
        "bound": None if bound is None or bound != bound else round(bound, 4),
        "p50_ms": latencies[len(latencies) // 2],
        "p99_ms": latencies[int(0.99 * (len(latencies) - 1))],
        "widths": {width: round(widths[width] / len(times), 4) for width in machine.points},
        "statuses": dict(Counter(str(one.status) for one in offered.answers)),
    }


def _cheapest(machine: Machine) -> dict[str, float]:
    return {width: min(ms / int(n) for n, ms in cells.items()) for width, cells in machine.costs.items()}


def _short(run: Mapping[str, Any]) -> str:
    return (
        f"attainment {run['attainment']:.4f}  mAP {run['quality']}  bound {run['bound']}  "
        f"p99 {run['p99_ms']:.0f} ms  "
        f"{run['widths']}  cores {run['server cores']} + {run['generator cores']}"
    )


if __name__ == "__main__":
    main()
