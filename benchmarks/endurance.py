"""Half an hour of mixed traffic at 1.5 times the capacity: no leak, no call that hangs, no request miscounted.

After five minutes and at the end the load pauses, and the memory of the idle service is compared.

    python benchmarks/endurance.py                  # 30 minutes of models/demo; --minutes for another time

Capacity is measured first, with the same traffic in a closed loop. Then calls arrive at random (Poisson), one in a
hundred malformed, another one in a hundred from a client that disconnects in the middle. What the clients saw
is compared with what the service counted, route by route and status by status.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from live_service import BIN, free_port, wait_ready
from mixed_traffic import REFUSALS, Traffic, acceptable
from raw_http import Answer, Call, Caller, make_call
from result_file import Figure, write_result
from sfsc_bundle.folder import open_bundle

OVERLOAD = 1.5
STUCK_S = 60.0
AT_ONCE = 800  # calls in progress; fewer than the service's max_connections
CAPACITY_S = 20.0
SETTLED_MINUTES = 5.0
SAMPLE_S = 2.0
REST_S = 20.0
"""Idle time after which the service has returned what it freed; what is in flight under load hides a growth."""

Counts = Counter[tuple[str, str, str]]


@dataclass
class Log:
    """What the clients saw. `answered` and `left` are by (method, route, status), "left" for a status."""

    answered: Counts = field(default_factory=Counter)
    left: Counts = field(default_factory=Counter)
    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    not_sent: int = 0

    def add(self, answer: Answer) -> None:
        """Record the outcome of one call."""
        call, status = answer.call, answer.status
        kinds = self.by_kind.setdefault(call.kind, Counter())
        if answer.failure is not None:
            self.failures[answer.failure] += 1
            kinds[answer.failure] += 1
        elif status is None:
            self.left[call.method, call.route, "left"] += 1
            kinds["left"] += 1
        else:
            # A full queue refuses before the head is judged, under the route of the path.
            route = "/embed" if status == 429 and call.route == "unmatched" else call.route
            self.answered[call.method, route, str(status)] += 1
            kinds[str(status)] += 1
            if not (acceptable(call, status) or refusal(answer)):
                self.surprises.append(f"{call.kind}: {status} {answer.body[:200]!r}")


@dataclass(frozen=True)
class Sample:
    """The server process at one moment, `minute` minutes after the load began."""

    minute: float
    rss_mib: float
    threads: int
    files: int
    ready: bool


def main() -> None:
    """Measure and write benchmarks/results/endurance.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, default=Path("models/demo"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, service(arguments.bundle, Path(work)) as (process, port):
        found = asyncio.run(endure(arguments, process.pid, port))
        process.send_signal(signal.SIGTERM)
        found["exit code"] = process.wait(120)
    figures = figures_of(found)
    path = write_result("endurance", figures, found, seed=arguments.seed)
    for figure in figures:
        print(f"{figure.name:52} {figure.value:10.2f} {figure.unit:10} {figure.goal or ''}")
    print(path)


@contextmanager
def service(bundle: Path, work: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """`sfsc serve` with an empty store, until the block ends."""
    port = free_port()
    words = [BIN / "sfsc", "serve", bundle, "--data", work / "data", "--port", port, "--log-level", "warning"]
    process = subprocess.Popen([str(word) for word in words])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            wait_ready(client, process)
        yield process, port
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


async def endure(arguments: argparse.Namespace, pid: int, port: int) -> dict[str, Any]:
    """Measure the capacity, apply the load, wait until the service is idle."""
    manifest = open_bundle(arguments.bundle).manifest
    traffic = Traffic(arguments.seed, manifest.widths, manifest.dimension, manifest.space)
    caller, log = Caller(port, STUCK_S), Log()
    capacity = await measure_capacity(caller, traffic)
    await open_everything(caller, traffic)
    await become_idle(caller)
    before, at_rest = await counted(caller), [resting(pid)]
    samples: list[Sample] = []
    began, sent, settled = time.monotonic(), 0, min(SETTLED_MINUTES, arguments.minutes / 3)
    for minutes in (settled, arguments.minutes - settled):
        watching = asyncio.create_task(watch(pid, port, began, samples))
        sent += await load(caller, traffic, log, OVERLOAD * capacity, minutes)
        watching.cancel()
        await become_idle(caller)
        await asyncio.sleep(REST_S)
        at_rest.append(resting(pid))
    after = await counted(caller)
    for key, count in before.items():
        after[key] -= count
    return {
        "bundle": manifest.name,
        "minutes": arguments.minutes,
        "capacity": round(capacity, 1),
        "offered": round(OVERLOAD * capacity, 1),
        "sent": sent,
        "not sent": log.not_sent,
        "answers by kind": {kind: dict(counts) for kind, counts in sorted(log.by_kind.items())},
        "surprises": log.surprises[:50],
        "surprise count": len(log.surprises),
        "failures": dict(log.failures),
        "miscounted": miscounted(log, after),
        "at rest: at first, when it had settled, at the end": at_rest,
        "samples": [vars(sample) for sample in samples],
    }


async def measure_capacity(caller: Caller, traffic: Traffic) -> float:
    """Calls a second in a closed loop of 16."""
    done, end = 0, time.monotonic() + CAPACITY_S

    async def client() -> None:
        nonlocal done
        while time.monotonic() < end:
            await caller.call(traffic.draw(poison=False))
            done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(client())
    return done / CAPACITY_S


async def open_everything(caller: Caller, traffic: Traffic) -> None:
    """Make the service start all its threads and open all its files, so that those do not look like leaks."""
    for some in (range(0, 300), range(300, 600)):
        async with asyncio.TaskGroup() as group:
            for number in some:
                group.create_task(caller.call(traffic.change(number)))
                group.create_task(caller.call(traffic.draw(poison=False)))


async def load(caller: Caller, traffic: Traffic, log: Log, rate: float, minutes: float) -> int:
    """Send calls at a rate, however many are unanswered; returns how many were sent, once all have ended."""
    running: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    end, sent = due + 60 * minutes, 0

    async def one(call: Call) -> None:
        log.add(await caller.call(call))

    while (due := due + traffic.wait(rate)) < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        call = traffic.draw()
        if len(running) >= AT_ONCE:
            log.not_sent += 1
            continue
        task = asyncio.create_task(one(call))
        running.add(task)
        task.add_done_callback(running.discard)
        sent += 1
    if running:
        await asyncio.wait(running)
    return sent


async def watch(pid: int, port: int, began: float, samples: list[Sample]) -> None:
    """Sample the process and /readyz every `SAMPLE_S`, until cancelled."""
    caller = Caller(port, STUCK_S)
    try:
        while True:
            ready = (await caller.call(make_call("ready", "GET", "/readyz"))).status == 200
            rss, threads = status_of(pid)
            samples.append(Sample((time.monotonic() - began) / 60, rss, threads, files_of(pid), ready))
            await asyncio.sleep(SAMPLE_S)
    finally:
        caller.close()


async def become_idle(caller: Caller) -> None:
    """Wait until the queue is empty and every disconnected client has been noticed; closes all connections."""
    for _ in range(100):
        caller.close()
        await asyncio.sleep(1.0)
        text = (await caller.call(make_call("metrics", "GET", "/metrics"))).body.decode()
        if "sfsc_queue_images 0.0\n" in text and "sfsc_open_requests 1.0\n" in text:
            caller.close()
            await asyncio.sleep(1.0)
            return
    sys.exit("the service was not idle within 100 s")


async def counted(caller: Caller) -> Counts:
    """The service's own request counts, by method, route and status, of the routes under load."""
    text = (await caller.call(make_call("metrics", "GET", "/metrics"))).body.decode()
    caller.close()
    counts: Counts = Counter()
    for labels, value in re.findall(r"^sfsc_http_requests_total\{(.*)\} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if named["route"] not in ("/metrics", "/readyz", "/livez"):
            counts[named["method"], named["route"], named["status"]] += int(float(value))
    return counts


def miscounted(log: Log, counted: Counts) -> dict[str, Any]:
    """Routes whose counts differ between clients and service; a client that left may count under any status."""
    wrong: dict[str, Any] = {}
    for route in {key[:2] for key in (*log.answered, *log.left, *counted)}:
        clients = {status: n for (*key, status), n in log.answered.items() if tuple(key) == route}
        service = {status: n for (*key, status), n in counted.items() if tuple(key) == route}
        spare = {status: service.get(status, 0) - clients.get(status, 0) for status in {*clients, *service}}
        left = log.left[(*route, "left")]
        if min(spare.values(), default=0) < 0 or sum(spare.values()) != left:
            wrong[" ".join(route)] = {"clients": clients, "left": left, "service": service}
    return wrong


def refusal(answer: Answer) -> bool:
    """Whether an answer is a refusal because of overload."""
    if answer.status not in REFUSALS:
        return False
    codes = REFUSALS[answer.status]
    return codes is None or json.loads(answer.body).get("code") in codes


def status_of(pid: int) -> tuple[float, int]:
    """Resident MiB and threads of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    rss, threads = (re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE) for name in ("VmRSS", "Threads"))
    assert rss
    assert threads
    return int(rss[1]) / 1024, int(threads[1])


def resting(pid: int) -> dict[str, float]:
    """What an idle process holds."""
    rss, threads = status_of(pid)
    return {"rss_mib": rss, "threads": threads, "files": files_of(pid)}


def files_of(pid: int) -> int:
    """Open files of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def figures_of(found: dict[str, Any]) -> list[Figure]:
    """The figures, out of everything recorded."""
    minutes = found["minutes"]
    settled = [one for one in found["samples"] if one["minute"] >= min(SETTLED_MINUTES, minutes / 3)]
    tenth = max(1, len(settled) // 10)
    rss = [one["rss_mib"] for one in settled]
    before, at_first, after = found["at rest: at first, when it had settled, at the end"]
    early, late = median(rss[:tenth]), median(rss[-tenth:])
    halfway = median(one["rss_mib"] for one in [one for one in settled if one["minute"] >= minutes / 2][:tenth])
    errors = [line for line in found["surprises"] if re.search(r": 5\d\d ", line)]
    return [
        Figure("growth of memory after it settled", 100 * (late / early - 1), "%", "<= 3"),
        Figure(
            "growth of memory after it settled, at rest",
            100 * (after["rss_mib"] / at_first["rss_mib"] - 1),
            "%",
            "<= 3",
        ),
        Figure("growth of memory over the second half", 100 * (late / halfway - 1), "%"),
        Figure("memory at the end", late, "MiB"),
        Figure("most memory after it settled", max(rss), "MiB"),
        Figure("stuck calls", found["failures"].get("stuck", 0), "calls", "<= 0"),
        Figure("calls without an answer", sum(found["failures"].values()), "calls", "<= 0"),
        Figure("answers that should not be", found["surprise count"], "answers", "<= 0"),
        Figure("5xx that are no refusals", len(errors), "answers", "<= 0"),
        Figure("routes whose counters do not add up", len(found["miscounted"]), "routes", "<= 0"),
        Figure("moments when it was not ready", sum(not one["ready"] for one in settled), "moments", "<= 0"),
        Figure("threads more than before, at rest", after["threads"] - before["threads"], "threads", "<= 0"),
        Figure("open files more than before, at rest", after["files"] - before["files"], "files", "<= 0"),
        Figure("most threads", max(one["threads"] for one in settled), "threads"),
        Figure("exit code after SIGTERM", found["exit code"], "", "<= 0"),
        Figure("calls", found["sent"], "calls"),
        Figure("calls that the client could not send", found["not sent"], "calls"),
        Figure("offered", found["offered"], "calls/s"),
        Figure("answered", found["sent"] / (60 * minutes), "calls/s"),
    ]


if __name__ == "__main__":
    main()
