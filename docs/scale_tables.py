"""The tables of docs/scale.md, out of benchmarks/results."""

from collections.abc import Callable, Sequence
from typing import Any

from markdown_tables import table
from performance_tables import measured, plain, result, where

__all__ = ["SCALE"]

LOADS = {0.6: "0.6 ×", 2.0: "2 ×", 3.0: "3 ×"}
PATTERNS = {
    "poisson": "as they come",
    "bursty": "half a second at twice the rate, half a second nothing",
    "clumped": "64 images at once",
}


def cells(runs: Sequence[dict[str, Any]]) -> list[str]:
    """In time and the expected mAP, by load."""
    found = {run["load"]: run for run in runs}
    return [f"{100 * found[load]['attainment']:.1f} · {found[load]['quality']:.1f}" for load in LOADS]


def replicas() -> str:
    """One table of numbers of replicas behind nginx, one of proxies, one of a death."""
    found = result("replicas")
    runs = found["data"]["runs"]
    plain = [run for run in runs if not run["death"] and not run["slow"]]
    counts = sorted({run["replicas"] for run in runs})
    header = ["requests", "replicas", *LOADS.values()]
    rows = [
        [PATTERNS[pattern] if count == counts[0] else "", str(count), *cells(chosen)]
        for pattern in PATTERNS
        for count in counts
        if (
            chosen := [
                run
                for run in plain
                if (run["pattern"], run["replicas"], run["balancer"]) == (pattern, count, "round robin")
            ]
        )
    ]
    proxies = [
        [
            balancer,
            who,
            *cells([run for run in plain if _of(run, balancer, "clumped", 16)]),
            *cells([run for run in runs if run["slow"] and run["balancer"] == balancer]),
        ]
        for balancer, who in found["data"]["balancers"].items()
    ]
    deaths = [
        [
            str(run["replicas"]),
            LOADS[run["load"]],
            str(run["repeated"]),
            f"{100 * run['attainment of the second after']:.1f} %",
            f"{100 * run['attainment']:.1f} % · {run['quality']:.1f}",
        ]
        for run in runs
        if run["death"]
    ]
    return "\n\n".join(
        [
            table(header, rows),
            "The same for the ways to choose a replica: 16 replicas, 64 images at once; and 4 of which one takes\n"
            f"{found['data']['slow']:g} × as long as the others, in bursts of half a second:",
            table(
                [
                    "choice",
                    "who",
                    *(f"{kind}: {load}" for kind in ("16", "1 of 4 slow") for load in LOADS.values()),
                ],
                proxies,
            ),
            "One replica is killed in the middle of a burst; its unanswered requests go to others:",
            table(["replicas", "load", "repeated", "in time in the second after", "of all"], deaths),
            where(found),
        ]
    )


def _of(run: dict[str, Any], balancer: str, pattern: str, count: int) -> bool:
    return (run["balancer"], run["pattern"], run["replicas"]) == (balancer, pattern, count)


TABLES: dict[str, Callable[[], str]] = {"replicas": replicas, "milvus": lambda: plain("milvus")}
SCALE = {name: measured(name, made) for name, made in TABLES.items()}
