"""This service beside LitServe and BentoML: the same images, preprocessing and ONNX files.

    python benchmarks/peers.py --variants     # first: each peer in several configurations, the best one is kept
    python benchmarks/peers.py                # every width: throughput, p50, p99, CPU per request, memory
    python benchmarks/peers.py --quick        # for development; writes nothing

The peers come from PyPI into environments of their own in runs/peers. 16 keep-alive clients of wrk on the same
cores; servers in turn in each repetition; medians. This service asks for the width
explicitly and holds all widths, a peer only the one that it serves; it is measured with its own target of 100 ms,
which goals are judged by, and with one of 250 ms.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from bodies import Bodies, draw
from live_service import free_port, launched, profiled, wait_ready
from load import post
from process_cost import cpu_ms, processes, pss_mib
from result_file import RESULTS, Figure, write_result
from untrained import untrained_bundle

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent / "peers"
FOLDER = Path("runs/peers")
OURS = "sfsc"
PATIENT = "sfsc, SFSC_SLO_MS=250"
"""This service once more, with a target within which 16 clients can be served at every width on two cores. Where
they cannot, late requests give way (engine/batch_plan.py); the peers know no target."""
OF_OURS: Mapping[str, Mapping[str, str]] = {OURS: {}, PATIENT: {"SFSC_SLO_MS": "250"}}
PACKAGES = {"litserve": ["litserve", "uvloop"], "bentoml": ["bentoml", "uvloop"]}
ADDRESS = {**dict.fromkeys(OF_OURS, "/embed?width={width}"), "litserve": "/embed", "bentoml": "/embed"}
HEALTH = {"litserve": "/health", "bentoml": "/readyz"}
SENT = {**dict.fromkeys(OF_OURS, "single"), "litserve": "single", "bentoml": "single, multipart"}
SECONDS = 3

Options = Mapping[str, str]
VARIANTS: dict[str, list[Options]] = {
    "litserve": [
        {"WORKERS": workers, "FAST_QUEUE": fast, "BATCH": "8", "WAIT_S": "0.005", "THREADS": threads}
        for workers, threads, fast in (("1", "2", "0"), ("1", "2", "1"), ("2", "1", "0"), ("2", "1", "1"))
    ],
    "bentoml": [
        {"WORKERS": workers, "SERVICE_THREADS": service, "BATCH": "16", "LATENCY_MS": latency, "THREADS": threads}
        for workers, service, threads, latency in (
            ("1", "1", "2", "10000"),
            ("1", "2", "1", "10000"),
            ("2", "1", "1", "10000"),
        )
    ],
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One load on one server."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    memory_mib: float


NAMES = {
    "per_second": ("throughput", "requests/s"),
    "p50_ms": ("p50", "ms"),
    "p99_ms": ("p99", "ms"),
    "cpu_ms": ("CPU per request", "ms"),
    "memory_mib": ("memory", "MiB"),
}


def main() -> None:
    """Measure and write benchmarks/results/peers.json, or peers_variants.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("runs/untrained-resnet18"))
    parser.add_argument("--variants", action="store_true", help="find each peer's best configuration")
    parser.add_argument("--quick", action="store_true", help="for development; writes nothing")
    arguments = parser.parse_args()
    bundle = untrained_bundle(arguments.bundle)
    for peer in PACKAGES:
        environment(peer)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bodies = draw(folder)
        if arguments.variants:
            choose(bundle.folder, bodies)
        else:
            compare(bundle.folder, bundle.manifest.widths, bodies, folder, quick=arguments.quick)


def environment(peer: str) -> Path:
    """A virtual environment with one peer and what the bundle's package needs, made once."""
    folder = FOLDER / peer
    if not (folder / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        ours = [f"{name}=={version(name)}" for name in ("onnxruntime", "numpy", "Pillow")]
        subprocess.run([folder / "bin/pip", "install", "--quiet", *ours, "pydantic", *PACKAGES[peer]], check=True)
        (folder / ".ready").touch()
    return folder


@contextmanager
def peer_serving(peer: str, bundle: Path, width: str, options: Options) -> Iterator[tuple[httpx.Client, int]]:
    """A peer on a socket until the block ends: its client and its first process."""
    port = free_port()
    binaries = (environment(peer) / "bin").absolute()
    words = {
        "litserve": [binaries / "python", HERE / "litserve_server.py", port],
        "bentoml": [binaries / "bentoml", "serve", "bentoml_service:Embed", "--host", "127.0.0.1", "--port", port],
    }[peer]
    given = {"PEER_DECODE": "ours"} | {f"PEER_{name}": value for name, value in options.items()}
    given |= {"PEER_BUNDLE": str(bundle.absolute()), "PEER_WIDTH": width}
    given |= {"PYTHONPATH": f"{ROOT / 'bundle'}:{HERE}", "BENTOML_DO_NOT_TRACK": "1"}
    given["PATH"] = f"{binaries}:{os.environ['PATH']}"
    log = (FOLDER / f"{peer}.log").open("w")
    server = subprocess.Popen(
        [str(word) for word in words], cwd=HERE, env=os.environ | given, stdout=log, stderr=log
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_ready(client, server, HEALTH[peer])
            yield client, server.pid
    finally:
        stop(server)


def stop(server: "subprocess.Popen[bytes]") -> None:
    """End a server and all its child processes."""
    tree = processes(server.pid)
    server.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(10)
    for pid in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.wait(10)


def trial(
    server: str, client: httpx.Client, pid: int, width: str, bodies: Mapping[str, Bodies], seconds: int = SECONDS
) -> Trial:
    """A short load to warm up, then one that counts."""
    url, sent = str(client.base_url.join(ADDRESS[server].format(width=width))), bodies[SENT[server]]
    post(url, sent.paths, max(1, seconds // 3), kind=sent.kind)  # in one second no large image may be answered
    began = cpu_ms(pid)
    load = post(url, sent.paths, seconds, kind=sent.kind)
    spent = (cpu_ms(pid) - began) / load.requests
    return Trial(load.per_second, load.p50_ms, load.p99_ms, spent, pss_mib(pid))


def choose(bundle: Path, bodies: Mapping[str, Bodies]) -> None:
    """Try every configuration at the narrowest and the widest width."""
    found: dict[str, Any] = {}
    for peer, variants in VARIANTS.items():
        for width in ("0.25", "1.0"):
            tried = []
            for options in variants:
                with peer_serving(peer, bundle, width, options) as (client, pid):
                    tried.append({"options": dict(options), **asdict(trial(peer, client, pid, width, bodies))})
                    print(peer, width, tried[-1], flush=True)
            found[f"{peer} at {width}"] = tried
    figures = [
        Figure(f"{case}: best throughput", max(one["per_second"] for one in tried), "requests/s")
        for case, tried in found.items()
    ]
    print(write_result("peers_variants", figures, {"seconds": SECONDS, "tried": found}, seed=0))


def best(peer: str, width: str) -> Options:
    """The configuration with the highest throughput; widths in between take that of the nearer end."""
    tried = json.loads((RESULTS / "peers_variants.json").read_text())["data"]["tried"]
    case = tried[f"{peer} at {'0.25' if float(width) <= 0.5 else '1.0'}"]
    options: Options = max(case, key=lambda one: one["per_second"])["options"]
    return options


def compare(bundle: Path, widths: Sequence[str], bodies: Mapping[str, Bodies], work: Path, *, quick: bool) -> None:
    """Every width: all three servers up, each measured in turn while the others are idle."""
    trials: dict[str, dict[str, list[Trial]]] = {}
    profile = profiled(bundle, work)
    for width in widths[:1] if quick else widths:
        trials[width] = {server: [] for server in (*OF_OURS, *PACKAGES)}
        with ExitStack() as stack:
            servers = {}
            for ours, settings in OF_OURS.items():
                data = work / f"{width}-{len(servers)}"
                shutil.copytree(profile, data)
                servers[ours] = stack.enter_context(launched(bundle, work, SFSC_DATA=str(data), **settings))
            for peer in PACKAGES:
                servers[peer] = stack.enter_context(peer_serving(peer, bundle, width, best(peer, width)))
            for _ in range(1 if quick else 2):
                for server, (client, pid) in servers.items():
                    trials[width][server].append(trial(server, client, pid, width, bodies))
    figures = [figure for width, found in trials.items() for figure in figured(width, found)]
    for figure in figures:
        print(f"{figure.name:60} {figure.value:9.3f} {figure.unit:10} {figure.goal or ''} {figure.met}")
    if not quick:
        data = {
            width: {server: [asdict(one) for one in found] for server, found in by_server.items()}
            for width, by_server in trials.items()
        }
        chosen = {f"{peer} at {width}": best(peer, width) for peer in PACKAGES for width in widths}
        print(write_result("peers", figures, {"seconds": SECONDS, "chosen": chosen, "trials": data}, seed=0))


def figured(width: str, found: Mapping[str, Sequence[Trial]]) -> Iterator[Figure]:
    """Every server's medians, and ours over the better peer's."""
    for field, (name, unit) in NAMES.items():
        values = {server: median(getattr(one, field) for one in trials) for server, trials in found.items()}
        for server, value in values.items():
            yield Figure(f"{width}, {name}: {server}", value, unit)
        more_is_better = field == "per_second"
        peer = (max if more_is_better else min)(value for server, value in values.items() if server not in OF_OURS)
        goal = (">= 1.8" if width == "0.25" else "> 1") if more_is_better else "< 1"
        yield Figure(f"{width}, {name}: ours ÷ the better peer", values[OURS] / peer, "×", goal)
        yield Figure(f"{width}, {name}: {PATIENT} ÷ the better peer", values[PATIENT] / peer, "×")


if __name__ == "__main__":
    main()
