"""A crowd that does not go away: clients that repeat refused requests at once, and an open loop at five times.

    python benchmarks/crowd.py                         # models/demo, about four minutes
    python benchmarks/crowd.py --nice 0 5 10 19        # the connections at several niceness levels; writes nothing
    python benchmarks/crowd.py --quick                 # for development; writes nothing

Answers (200) a second over 16 and over 950 connections, measured in turn right after each other, because machines
are shared: the figure is the median of their ratios. The crowd itself runs on the same cores, and takes the more
of them the larger it is, so answers for a second of the service's own CPU time stand beside. Then requests arrive
at five times the rate of the 16 connections; the longest wait of one that was answered is compared with
SFSC_QUEUE_MS, by the clock of the sender and by the service's own.
"""

import argparse
import os
import resource
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from live_service import launched
from open_loop import Answered, Offered, keep_busy, offer
from process_cost import cpu_ms
from result_file import Figure, write_result
from sfsc_vehicles import CAMERAS, make_identity, render_jpeg

PATHS = ("/embed?width=1.0", "/embed", "/search")
FEW, MANY = 16, 950
QUEUE_MS = 2000.0
OVERLOAD = 5.0
IMAGES = 32
WARM_UP_S = 3.0
"""Left out of a count of answers: 950 connections that begin at once fill the queue first."""


@dataclass(frozen=True, slots=True)
class Count:
    """What so many connections got of a path; times in milliseconds.

    `per_s`: answers with 200 a second; `service_cores`, `crowd_cores`: what both sides took of the machine;
    `sent_late_ms`, `service_longest_ms`: as of `open_loop.Answered`, the longest of an answer with 200.
    """

    path: str
    nice: int
    connections: int
    per_s: float
    p50_ms: float
    longest_ms: float
    sent_late_ms: float
    service_longest_ms: float
    service_cores: float
    crowd_cores: float
    statuses: dict[int, int]
    load: float


def main() -> None:
    """Measure and write benchmarks/results/crowd.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("models/demo"))
    parser.add_argument("--nice", type=int, nargs="+", help="niceness levels to compare")
    parser.add_argument("--quick", action="store_true", help="shorter and once")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    seconds, repeats = (6.0, 1) if arguments.quick else (8.0, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bodies = draw(folder)
        if arguments.nice:
            for nice in arguments.nice:
                counted(arguments.bundle, folder, bodies, nice, (FEW, 64, 256, MANY), seconds, 1)
            return
        nice = 10
        counts = counted(arguments.bundle, folder, bodies, nice, (FEW, MANY), seconds, repeats)
        overloaded = overload(arguments.bundle, folder, bodies, 10.0 if arguments.quick else 60.0)
    figures = figured(counts, overloaded)
    for figure in figures:
        print(f"{figure.name:75} {figure.value:9.3f} {figure.unit:6} {figure.goal or ''} {figure.met}")
    if not arguments.quick:
        data = {"counts": [asdict(one) for one in (*counts, overloaded)], "queue_ms": QUEUE_MS}
        print(write_result("crowd", figures, data, seed=0))


def draw(folder: Path) -> list[Path]:
    """Images of 128 px."""
    bodies = [folder / f"{n}.jpg" for n in range(IMAGES)]
    for n, body in enumerate(bodies):
        body.write_bytes(render_jpeg(0, make_identity(0, n), n % CAMERAS, 0, 128))
    return bodies


def counted(
    bundle: Path,
    folder: Path,
    bodies: list[Path],
    nice: int,
    crowds: tuple[int, ...],
    seconds: float,
    repeats: int,
) -> list[Count]:
    """Every path with every number of connections, several times in turn."""
    found = []
    settings = {"SFSC_NICE": str(nice), "SFSC_QUEUE_MS": str(QUEUE_MS)}
    with launched(bundle, folder, **settings) as (client, pid):
        port = client.base_url.port
        assert port is not None
        for n, body in enumerate(bodies):
            client.put(f"/items/{n}", content=body.read_bytes(), headers={"Content-Type": "image/jpeg"})
        for path in PATHS:
            for _ in range(repeats):
                for connections in crowds:
                    before = cpu_ms(pid)
                    offered = keep_busy(port, path, connections, WARM_UP_S + seconds, bodies)
                    spent_s = (cpu_ms(pid) - before) / 1000
                    found.append(_count(path, nice, connections, offered, spent_s, WARM_UP_S))
    return found


def overload(bundle: Path, folder: Path, bodies: list[Path], seconds: float) -> Count:
    """The open loop at `OVERLOAD` × what 16 connections get."""
    with launched(bundle, folder, SFSC_NICE="10", SFSC_QUEUE_MS=str(QUEUE_MS)) as (client, pid):
        port = client.base_url.port
        assert port is not None
        path = PATHS[0]
        full = keep_busy(port, path, FEW, 5.0, bodies)
        rate = OVERLOAD * sum(one.status == 200 for one in full.answers) / full.seconds
        times = [number / rate for number in range(int(rate * seconds))]
        before = cpu_ms(pid)
        offered = offer(port, path, times, bodies)
        return _count(path, 10, 0, offered, (cpu_ms(pid) - before) / 1000, 0.0)


def figured(counts: list[Count], overloaded: Count) -> list[Figure]:
    """One ratio per path, and the wait under overload."""
    figures = []
    for path in PATHS:
        few, many = (
            [one.per_s for one in counts if one.path == path and one.connections == crowd] for crowd in (FEW, MANY)
        )
        ratio = median(one / other for one, other in zip(many, few, strict=True))
        figures.append(Figure(f"{path}: 200s a second at {MANY} ÷ at {FEW} connections", ratio, "×", ">= 0.8"))
        figures.append(Figure(f"{path}: 200s a second at {FEW} connections", median(few), "1/s"))
        few, many = (
            [one.per_s / one.service_cores for one in counts if one.path == path and one.connections == crowd]
            for crowd in (FEW, MANY)
        )
        ratio = median(one / other for one, other in zip(many, few, strict=True))
        name = f"{path}: 200s for a second of the service's CPU at {MANY} ÷ at {FEW} connections"
        figures.append(Figure(name, ratio, "×"))
    name = f"open loop at {OVERLOAD:g} ×: longest answer ÷ SFSC_QUEUE_MS"
    figures.append(Figure(name, overloaded.longest_ms / QUEUE_MS, "×", "<= 1.2"))
    figures.append(Figure(f"{name}, by the service's clock", overloaded.service_longest_ms / QUEUE_MS, "×"))
    figures.append(Figure(f"open loop at {OVERLOAD:g} ×: sent late, at most", overloaded.sent_late_ms, "ms"))
    return figures


def _count(path: str, nice: int, connections: int, offered: Offered, spent_s: float, after_s: float) -> Count:
    """`spent_s`: CPU time of the service meanwhile."""
    answers = [one for one in offered.answers if one.at + one.latency_ms / 1000 >= after_s]
    good: list[Answered] = [one for one in answers if one.status == 200]
    waits = sorted(one.latency_ms for one in good)
    count = Count(
        path,
        nice,
        connections,
        len(good) / (offered.seconds - after_s),
        waits[len(waits) // 2] if waits else float("nan"),
        waits[-1] if waits else float("nan"),
        max((one.sent_late_ms for one in good), default=0.0),
        max((one.service_ms for one in good), default=0.0),
        spent_s / offered.seconds,
        offered.cpu_s / offered.seconds,
        dict(Counter(one.status for one in answers)),
        os.getloadavg()[0],
    )
    print(count, flush=True)
    return count


if __name__ == "__main__":
    main()
