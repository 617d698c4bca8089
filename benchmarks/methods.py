"""The comparison of methods, from the results of the sweeps: asked against obtained.

    NAME=omniglot28-methods
    sfsc-train sweep training/sweeps/$NAME.toml --data DIR --results benchmarks/results/$NAME
    python benchmarks/methods.py           # the figures of the results that exist

Reads the JSON files of the sweeps below benchmarks/results/, so it can run while some runs are still missing. Also
draws the plots of docs/.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from result_file import RESULTS, Figure, write_result
from sfsc_bundle.retrieval import summarise
from sfsc_training.report.plots import conflict_curve, cost_curve, png
from sfsc_training.results import Result, read_result

PRETRAINED = "photos-rates"
SWEEPS = (
    "omniglot28-methods",
    "omniglot28-long",
    "omniglot28-short",
    "omniglot28-packaged",
    "omniglot28-rates",
    "omniglot28-robustness",
    "grocery-store-methods",
    "vehicles-methods",
    PRETRAINED,
)
DRAWN = "omniglot28-methods"
BASELINES = ("bct-s", "asymmetric-s")
ASKED = {"omniglot28": (1, -0.5), "grocery-store": (2, -1.5), "vehicles": (2, -0.3)}
"""Of SFSC on each data set: aligned over raw, and the mixed gallery against its row's mean, in points of mAP."""


def main() -> None:
    """Write the figures of every sweep that has results."""
    for sweep in SWEEPS:
        groups = read_sweep(RESULTS / sweep)
        if not groups:
            continue
        figures = pairs(groups) if sweep.endswith(("robustness", "rates")) else comparison(groups)
        for name, members in groups.items():
            figures += alignment(sweep.rpartition("-")[0], name, members)
        rows = {name: row(members) for name, members in groups.items()}
        for name, mean_ap in on_validation(RESULTS / sweep).items():
            rows[name]["validation"] = mean_ap
        path = write_result("_".join(sweep.rsplit("-", 1)), figures, {"runs": rows})
        print(f"written to {path}, from {sum(len(members) for members in groups.values())} runs")
        docs = Path(__file__).parents[1] / "docs"
        if sweep == DRAWN:
            draw(as_long_as_sfsc(groups), docs)
        elif sweep == PRETRAINED:
            (docs / "pretrained-conflicts.png").write_bytes(png(conflict_curve(groups)))


def draw(groups: Mapping[str, Sequence[Result]], folder: Path) -> None:
    """Accuracy against cost, and conflicts over training."""
    (folder / "methods-cost.png").write_bytes(png(cost_curve(groups)))
    (folder / "methods-conflicts.png").write_bytes(png(conflict_curve(groups)))


def as_long_as_sfsc(groups: Mapping[str, Sequence[Result]]) -> dict[str, Sequence[Result]]:
    """The methods with as many steps as SFSC; none while SFSC has no result."""
    steps = groups["sfsc"][0].recipe.optimiser.steps if "sfsc" in groups else None
    return {name: members for name, members in groups.items() if members[0].recipe.optimiser.steps == steps}


def on_validation(folder: Path) -> dict[str, float]:
    """Mean of the matrix on validation identities over the seeds, of the runs that were scored on them."""
    groups = read_sweep(folder, "validation")
    return {name: mean(members) for name, members in groups.items()}


def read_sweep(folder: Path, split: str = "test") -> dict[str, list[Result]]:
    """Results by recipe name without the data set's, seeds in order."""
    groups: dict[str, list[Result]] = {}
    for path in sorted(folder.glob(f"*-{split}.json")):
        found = read_result(path)
        name = found.recipe.name.removeprefix(f"{folder.name.rpartition('-')[0]}-")
        groups.setdefault(name, []).append(found)
    return groups


def row(members: Sequence[Result]) -> dict[str, Any]:
    """One line of the table: mean over the seeds, sample standard deviation where there are several."""
    joint = len(members[0].recipe.widths) > 1
    summaries = [summarise(member.mean_ap) for member in members] if joint else []
    conflicts = [[entry["step"], entry["conflicts"]] for member in members for entry in member.history]
    return {
        "method": members[0].recipe.method,
        "widths": list(members[0].recipe.width_names),
        "seeds": [member.recipe.seed for member in members],
        "steps": members[0].recipe.optimiser.steps,
        "mean": spread([member.mean for member in members]),
        "self": spread([s.mean_self for s in summaries]),
        "cross": spread([s.mean_cross for s in summaries]),
        "ac": spread([s.ac for s in summaries]),
        "raw": spread([float(np.mean(member.raw["mean_ap"])) for member in members if member.raw]),
        "mixed": spread([fmean(member.mixed["mean_ap"]) for member in members if member.mixed]),
        "gaps": mean_gaps(members),
        "matrix": np.mean([member.mean_ap for member in members], axis=0).tolist(),
        "conflicts": fmean(share for _, share in conflicts) if conflicts and joint else None,
        "conflicts_by_tenth": tenths(conflicts) if conflicts and joint else None,
    }


def mean_gaps(members: Sequence[Result]) -> list[float] | None:
    """The mixed gallery's gap of each query width, mean over the seeds; None where it was not measured."""
    found = [member.mixed["gaps"] for member in members if member.mixed]
    return np.mean(found, axis=0).tolist() if found else None


def alignment(dataset: str, name: str, members: Sequence[Result], *, asked: bool = True) -> list[Figure]:
    """What the alignment gains, and whether a mixed gallery is as good as a pure one.

    Args:
        asked: whether the goals of the data set are those of these runs.
    """
    both = [(member.evaluation, member.raw) for member in members if member.raw is not None]
    gaps = mean_gaps(members)
    if not both or gaps is None or len(gaps) == 1:
        return []
    gain, gap = ASKED[dataset] if asked and name == "sfsc" else (None, None)
    gains = np.mean([np.subtract(aligned["mean_ap"], raw["mean_ap"]) for aligned, raw in both], axis=0)
    over_raw, unit = f"{name}, aligned over raw", "points of mAP"
    return [
        Figure(f"{over_raw}, mean of the matrix", float(gains.mean()), unit, gain and f">= {gain}"),
        Figure(f"{over_raw}, smallest gain of a self-test", float(np.diag(gains).min()), unit, gain and ">= 0"),
        Figure(f"{name}, mixed gallery against its row's mean, worst width", min(gaps), unit, gap and f">= {gap}"),
    ]


def spread(values: Sequence[float]) -> list[float] | None:
    """[mean, sample standard deviation]; [mean] of one value, None of no values."""
    if not values:
        return None
    return [fmean(values), *([stdev(values)] if len(values) > 1 else [])]


def tenths(conflicts: Sequence[tuple[int, float]]) -> list[float]:
    """Mean share of conflicting pairs in each tenth of the steps."""
    last = max(step for step, _ in conflicts) + 1
    parts: list[list[float]] = [[] for _ in range(10)]
    for step, share in conflicts:
        parts[10 * step // last].append(share)
    return [fmean(part) for part in parts if part]


def comparison(groups: Mapping[str, Sequence[Result]]) -> list[Figure]:
    """The figures of one data set, for the methods that have results."""
    figures = []
    if "independent" in groups:
        crossed = [off_diagonal(member).max() for member in groups["independent"]]
        figures.append(Figure("independent, largest cross-test", fmean(crossed), "points of mAP", "<= 2"))
    if "unified" in groups and "sfsc" in groups:
        gain = mean(groups["sfsc"]) - mean(groups["unified"])
        figures.append(Figure("SFSC over unified, mean of the matrix", gain, "points of mAP", ">= 6"))
    if "unified" in groups:
        figures += [
            Figure(
                f"{name} over unified, mean of the matrix",
                mean(groups[name]) - mean(groups["unified"]),
                "points of mAP",
            )
            for name in groups
            if name.startswith("sfsc-") and len(groups[name][0].recipe.widths) > 1
        ]
    for name in BASELINES:
        if name in groups and "sfsc" in groups:
            figures += over(groups["sfsc"], groups[name], f"SFSC over {name}", ">= 1.5")
    if "sfsc" in groups and "independent" in groups:
        figures += self_tests(groups["sfsc"], groups["independent"])
    for name in [name for name in groups if groups[name][0].recipe.method.startswith("sfsc")]:
        figures += crossing(name, groups[name])
    figures += [
        Figure(f"{name}, share of conflicting pairs", 100 * row(members)["conflicts"], "%")
        for name, members in groups.items()
        if row(members)["conflicts"] is not None and not members[0].recipe.network.separate
    ]
    joint = {
        name: members
        for name, members in as_long_as_sfsc(groups).items()
        if len(members[0].recipe.widths) > 1 and name != "independent"
    }
    once = {name: members for name, members in joint.items() if members[0].recipe.teacher is None}
    if "sfsc" in joint:
        figures += best_over_sfsc("the best of one training", once)
        figures += best_over_sfsc("the best of all", joint)
    return figures


def best_over_sfsc(which: str, among: Mapping[str, Sequence[Result]]) -> list[Figure]:
    """The largest mean of the matrix against SFSC's, which is one of them."""
    best = max(among, key=lambda name: mean(among[name]))
    return over(among[best], among["sfsc"], f"{which}, {best}, over SFSC", None)


def over(ours: Sequence[Result], theirs: Sequence[Result], name: str, goal: str | None) -> list[Figure]:
    """Difference of the means of the matrix, and the same less both standard deviations over the seeds."""
    difference = mean(ours) - mean(theirs)
    figures = [Figure(f"{name}, mean of the matrix", difference, "points of mAP", goal)]
    if len(ours) > 1 and len(theirs) > 1:
        both = stdev([member.mean for member in ours]) + stdev([member.mean for member in theirs])
        asked = "> 0" if goal else None
        figures.append(Figure(f"{name}, less the spread of the seeds", difference - both, "points of mAP", asked))
    return figures


def self_tests(sfsc: Sequence[Result], alone: Sequence[Result]) -> list[Figure]:
    """Each width's self-test against the same width trained alone."""
    ours, theirs = (np.mean([np.diag(member.mean_ap) for member in group], axis=0) for group in (sfsc, alone))
    return [
        Figure(f"SFSC self-test at {width} against trained alone", float(a - b), "points of mAP", ">= -0.5")
        for width, a, b in zip(sfsc[0].recipe.width_names, ours, theirs, strict=True)
    ]


def crossing(name: str, members: Sequence[Result]) -> list[Figure]:
    """The worst pair against the lower of its self-tests, and AC."""
    matrix = np.mean([member.mean_ap for member in members], axis=0)
    pairs = [(i, j) for i, j in product(range(len(matrix)), repeat=2) if i != j]
    worst = min(matrix[i, j] - min(matrix[i, i], matrix[j, j]) for i, j in pairs)
    goals = (">= -1", ">= 1") if name == "sfsc" else (None, None)
    return [
        Figure(f"{name}, worst cross-test against the lower self-test", float(worst), "points of mAP", goals[0]),
        Figure(f"{name}, AC of the mean over the seeds", summarise(matrix.tolist()).ac, "share", goals[1]),
    ]


def pairs(groups: Mapping[str, Sequence[Result]]) -> list[Figure]:
    """SFSC − BCT-S of every setting."""
    figures = []
    for name in sorted(name for name in groups if "sfsc" in name.split("-")):
        other, setting = name.replace("sfsc", "bct-s"), name.replace("-sfsc", "")
        if other in groups:
            figures += over(groups[name], groups[other], f"{setting}: SFSC over BCT-S", None)
    return figures


def mean(members: Sequence[Result]) -> float:
    """Mean of the matrix over the seeds."""
    return fmean(member.mean for member in members)


def off_diagonal(member: Result) -> Any:
    """The cross-tests of one run as it was trained: alignment joins even networks that share nothing."""
    matrix = np.asarray(member.mean_ap if member.raw is None else member.raw["mean_ap"])
    return matrix[~np.eye(len(matrix), dtype=bool)]


if __name__ == "__main__":
    main()
