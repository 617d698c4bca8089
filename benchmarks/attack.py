"""What one hostile client does to everybody else: every attack of attacks.py against a real `sfsc serve`.

    python benchmarks/attack.py                    # all, in a control group of 512 MB; run again, it goes on
    python benchmarks/attack.py --only WORD …      # those whose name has one of the words; writes nothing

The service runs in a control group of its own with `--memory` MB (root and a writable /sys/fs/cgroup), else
without limits, which the result then says. A normal client asks for a narrow embedding again and again: alone,
beside harmless callers, then beside the attack. The harmless callers are as many as the attackers and send
photographs of as many bytes (attacks.py), so that what an attack does beyond a load that is allowed can be told
from it; both share the machine with the service. The freeze is the longest time by which the event loop of the
service was late (loop_lag.py); memory is the peak of its resident set.
"""

import argparse
import contextlib
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from attacks import ATTACKS
from live_service import launched
from loop_lag import GAUGE
from mixed_traffic import image
from result_file import Figure, write_result
from sfsc_bundle.atomic_file import write_file

LAG = Path(__file__).with_name("loop_lag.py")
ATTACK = Path(__file__).with_name("attacks.py")
TRIALS = Path("runs/attack")
HITS = 1024
FREEZE_MS = 50
P99_RATIO = 1.5
PAUSE_S = 0.01
"""Between two requests of the normal client."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What a normal client and the event loop met beside some callers.

    `own_freeze_ms`: as far as the service itself computed meanwhile (loop_lag.py); `statuses`: how often these
    callers saw each, 0 where they were cut off; `sent_mb`: what they sent a second.
    """

    freeze_ms: float
    own_freeze_ms: float
    p50_ms: float
    p99_ms: float
    answered: int
    refused: int
    statuses: dict[str, int]
    sent_mb: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One attack, and the harmless load that it is compared with."""

    attack: str
    survived: bool
    peak_mb: float
    alone: Beside
    beside_harmless: Beside
    beside: Beside


def main() -> None:
    """Attack, and write benchmarks/results/attack.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("models/demo"))
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each attack is repeated")
    parser.add_argument("--memory", type=int, default=512, help="MB that the service may use")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="for development; writes nothing")
    arguments = parser.parse_args()
    chosen = [name for name in ATTACKS if not arguments.only or any(word in name for word in arguments.only)]
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as work, control_group(arguments.memory) as group:
        print(f"control group: {group or 'none: memory is measured, not limited'}", flush=True)
        for name in chosen:
            kept = TRIALS / f"{arguments.seconds:g} s, {name}.json"
            if kept.exists() and not arguments.only:
                trials.append(read_trial(kept))
                continue
            trials.append(trial(name, arguments, Path(work), group))
            if not arguments.only:
                TRIALS.mkdir(parents=True, exist_ok=True)
                write_file(kept, json.dumps(asdict(trials[-1])).encode())
    figures = figured(trials, arguments.memory)
    if not arguments.only:
        data = {
            "seconds": arguments.seconds,
            "memory_limit_mb": arguments.memory if group else None,
            "trials": [asdict(one) for one in trials],
        }
        print(write_result("attack", figures, data, seed=0))
        shutil.rmtree(TRIALS)


def read_trial(kept: Path) -> Trial:
    """What an earlier run has found of an attack."""
    found = json.loads(kept.read_bytes())
    return Trial(**found | {name: Beside(**found[name]) for name in ("alone", "beside_harmless", "beside")})


def trial(name: str, arguments: argparse.Namespace, work: Path, group: Path | None) -> Trial:
    """One attack on a service of its own."""
    lag = work / "lag"
    lag.write_bytes(GAUGE.pack(0.0, 0.0))
    service = [sys.executable, LAG, lag]
    command = (
        service if group is None else ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *service]
    )
    with (
        launched(arguments.bundle, work, command, SFSC_LOG_LEVEL="error", SFSC_NICE="10") as (client, pid),
        lag.open("r+b") as file,
        mmap.mmap(file.fileno(), GAUGE.size) as gauge,
    ):
        fill(client)
        beside(client, gauge, [], 0.5)  # the first requests of a service are slow
        alone = beside(client, gauge, [], arguments.seconds)
        beside_harmless = beside(client, gauge, [name, "harmless"], arguments.seconds)
        forget_peak(pid)
        found = beside(client, gauge, [name], arguments.seconds)
        survived = is_alive(client)
        peak = peak_mb(pid) if survived else float(arguments.memory)
    found_trial = Trial(name, survived, peak, alone, beside_harmless, found)
    print(f"{name:40} {'' if survived else 'KILLED'} peak {peak:.0f} MB")
    for label, one in (("alone", alone), ("beside harmless", beside_harmless), ("beside it", found)):
        print(
            f"    {label:16} freeze {one.freeze_ms:6.1f} ms ({one.own_freeze_ms:.1f} its own),"
            f" p50 {one.p50_ms:6.1f}, p99 {one.p99_ms:6.1f} ms,"
            f" {one.answered} answered, {one.refused} refused, {one.sent_mb:6.1f} MB/s, {one.statuses}",
            flush=True,
        )
    return found_trial


def beside(client: httpx.Client, gauge: mmap.mmap, callers: list[str], seconds: float) -> Beside:
    """Measure the normal client for so many seconds beside callers; `callers`: words for attacks.py, or none."""
    small = image(0, 128, "JPEG")
    words = [
        sys.executable,
        ATTACK,
        *callers[:1],
        client.base_url.host,
        client.base_url.port,
        seconds,
        *callers[1:],
    ]
    running = callers and subprocess.Popen(
        [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    if running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdout.readline()  # what is sent is made
        running.stdin.write("\n")
        running.stdin.flush()
    GAUGE.pack_into(gauge, 0, 0.0, 0.0)
    took, refused = normal_client(client, small, time.monotonic() + seconds)
    told: dict[str, Any] = {"statuses": {}, "bytes": 0}
    if running:
        told = json.loads(running.communicate()[0])
    freeze_s, own_freeze_s = GAUGE.unpack_from(gauge)
    p50, p99 = np.quantile(took or [float("inf")], [0.5, 0.99])
    sent_mb = told["bytes"] / 2**20 / seconds
    return Beside(
        1000 * freeze_s, 1000 * own_freeze_s, 1000 * p50, 1000 * p99, len(took), refused, told["statuses"], sent_mb
    )


def fill(client: httpx.Client) -> None:
    """Items with as much metadata as they may have, so that a search has a large response."""
    widths = client.get("/widths").raise_for_status().json()
    vector = [1.0] + [0.0] * (widths["dim"] - 1)
    line = {"vector": vector, "width": "1.0", "space": widths["space"], "metadata": {"text": "x" * 16_000}}
    for begin in range(0, HITS, 256):
        lines = [json.dumps({"id": f"item-{n}", **line}) for n in range(begin, begin + 256)]
        response = client.post(
            "/items", content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
        ).raise_for_status()
        assert response.json()["failed"] == 0


def normal_client(client: httpx.Client, data: bytes, until: float) -> tuple[list[float], int]:
    """Seconds of each answered request, and how many were refused or failed."""
    took: list[float] = []
    refused = 0
    while (began := time.monotonic()) < until:
        try:
            response = client.post("/embed?width=0.25", content=data, headers={"Content-Type": "image/jpeg"})
            if response.status_code == httpx.codes.OK:
                took.append(time.monotonic() - began)
            else:
                refused += 1
        except httpx.TransportError:
            refused += 1
        time.sleep(PAUSE_S)
    return took, refused


def is_alive(client: httpx.Client) -> bool:
    """Whether the service still answers."""
    try:
        return client.get("/livez").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def forget_peak(pid: int) -> None:
    """Let the peak of a process's memory begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mb(pid: int) -> float:
    """The peak of a process's resident set."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@contextlib.contextmanager
def control_group(megabytes: int) -> Iterator[Path | None]:
    """A control group (v1 or v2) with a limit on memory; None where none can be made."""
    v1 = Path("/sys/fs/cgroup/memory")
    group = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"sfsc-attack-{os.getpid()}"
    limit = "memory.limit_in_bytes" if v1.is_dir() else "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(megabytes * 2**20))
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        group.rmdir()


def is_unhurt(beside: Beside, compared: Beside) -> bool:
    """Whether the normal client was answered as soon as it should be, and at all."""
    answered = beside.answered > 0 and compared.answered > 0
    return answered and bool(beside.p99_ms <= P99_RATIO * compared.p99_ms)


def figured(trials: list[Trial], megabytes: int) -> list[Figure]:
    """Figures for each attack, with their goals."""
    survivors = sum(one.survived for one in trials)
    unfrozen = sum(bool(one.beside.freeze_ms <= FREEZE_MS) for one in trials)
    unhurt = sum(is_unhurt(one.beside, one.beside_harmless) for one in trials)
    as_alone = sum(is_unhurt(one.beside, one.alone) for one in trials)
    refused = sum(one.beside.refused for one in trials)
    every = f">= {len(trials)}"
    figures = [
        Figure("attacks that the service survived", survivors, "attacks", every),
        Figure(f"attacks that froze the event loop for {FREEZE_MS} ms at most", unfrozen, "attacks", every),
        Figure(
            f"attacks beside which p99 is {P99_RATIO} × that beside harmless callers at most",
            unhurt,
            "attacks",
            every,
        ),
        Figure(f"attacks beside which p99 is {P99_RATIO} × that alone at most", as_alone, "attacks", every),
        Figure("requests of the normal client that were refused beside attacks", refused, "requests"),
        Figure("most memory at the peak", round(max(one.peak_mb for one in trials)), "MB", f"<= {megabytes}"),
    ]
    for one in trials:
        name, harmless = one.attack, one.beside_harmless
        figures += [
            Figure(
                f"{name}: longest freeze of the event loop",
                round(one.beside.freeze_ms, 1),
                "ms",
                f"<= {FREEZE_MS}",
            ),
            Figure(f"{name}: longest freeze beside harmless callers", round(harmless.freeze_ms, 1), "ms"),
            Figure(f"{name}: peak memory", round(one.peak_mb), "MB", f"<= {megabytes}"),
            Figure(
                f"{name}: p99 of a normal client beside it ÷ beside harmless callers",
                round(one.beside.p99_ms / harmless.p99_ms, 2),
                "×",
                f"<= {P99_RATIO}",
            ),
            Figure(
                f"{name}: p99 of a normal client beside it ÷ alone",
                round(one.beside.p99_ms / one.alone.p99_ms, 2),
                "×",
                f"<= {P99_RATIO}",
            ),
        ]
    return figures


if __name__ == "__main__":
    main()
