"""The figures of the overload benchmark, from its runs."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np

from result_file import Figure

__all__ = ["OURS", "figures", "margin"]

OURS = "scheduler"
QUIET, BUSY = 0.6, 3.0

Runs = Sequence[dict[str, Any]]


def figures(runs: Runs, slo_ms: float) -> list[Figure]:
    """One per goal; medians over repeats, and over patterns and loads the worst."""
    found = []
    for pattern in dict.fromkeys(run["pattern"] for run in runs):
        ours = [run["attainment"] for run in _select(runs, pattern, BUSY, OURS)]
        full = [run["attainment"] for run in _select(runs, pattern, BUSY, "1.0")]
        name = f"within {slo_ms:.0f} ms at {BUSY:g} × capacity, {pattern}"
        found += [
            Figure(name, 100 * median(ours), "%", ">= 99"),
            Figure(f"{name}: static 1.0", 100 * median(full), "%"),
        ]
    for load, pattern in _cases(runs):
        if load <= QUIET:
            wide = median(run["widths"]["1.0"] for run in _select(runs, pattern, load, OURS))
            # Bursts and ramps of this mean load reach twice of it, which is more than the machine can do at 1.0.
            goal = ">= 95" if pattern == "poisson" else None
            found.append(Figure(f"answered at width 1.0 at {load:g} ×, {pattern}", 100 * wide, "%", goal))
    margins = {case: margin(runs, *case) for case in _cases(runs) if _select(runs, case[1], case[0], "1.0")}
    found += [
        Figure("smallest margin above the static line", min(margins.values()), "mAP points", ">= 0"),
        Figure(
            "smallest margin above the static line, more than capacity",
            min(value for (load, _), value in margins.items() if load > 1),
            "mAP points",
            ">= 0",
        ),
        Figure("smallest share of the clairvoyant bound", min(_shares(runs)), "", ">= 0.9"),
        Figure("runs better than the bound, so that costs were measured wrong", _unbounded(runs), "", "<= 0"),
        Figure("generator, at most", max(run["generator cores"] for run in runs), "cores"),
    ]
    return found


def margin(runs: Runs, load: float, pattern: str) -> float:
    """By how many points of mAP the scheduler lies above the line through the static policies.

    The line joins the static policies that no other one beats on both axes, by attainment; where the scheduler
    attains more than all of them it goes on level, where it attains less, likewise.
    """
    ours = _select(runs, pattern, load, OURS)
    points = [
        (run["attainment"], run["quality"])
        for run in runs
        if run["pattern"] == pattern
        and run["load"] == load
        and run["policy"] != OURS
        and run["quality"] is not None
    ]
    front = [a for a in points if not any(b != a and b[0] >= a[0] and b[1] >= a[1] for b in points)]
    at, quality = zip(*sorted(front), strict=True)
    return median((run["quality"] or 0.0) - float(np.interp(run["attainment"], at, quality)) for run in ours)


def _shares(runs: Runs) -> Iterable[float]:
    for load, pattern in _cases(runs):
        bounded = [
            run for run in _select(runs, pattern, load, OURS) if run["bound"] is not None and run["quality"]
        ]
        if bounded:
            yield median(run["quality"] / run["bound"] for run in bounded)


def _unbounded(runs: Runs) -> int:
    ours = [run for run in runs if run["policy"] == OURS and run["quality"] is not None]
    return sum(run["bound"] is None or run["bound"] < run["quality"] for run in ours)


def _cases(runs: Runs) -> list[tuple[float, str]]:
    return list(dict.fromkeys((run["load"], run["pattern"]) for run in runs))


def _select(runs: Runs, pattern: str, load: float, policy: str) -> Runs:
    return [run for run in runs if (run["pattern"], run["load"], run["policy"]) == (pattern, load, policy)]
