"""One training against two at equal arithmetic, on omniglot28: the figures asked, from the results of the sweep.

    NAME=one-as-good-as-two
    sfsc-train sweep training/sweeps/$NAME.toml --data DIR --split both --results benchmarks/results/$NAME
    python benchmarks/one_training.py      # the figures of the results that exist

The best of one training, and the best rate of what it is compared with, are chosen on validation identities; every
figure is of test identities, aligned. The name of a figure says whether the other side had its best rate.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from methods import mean, over, row
from result_file import RESULTS, Figure, write_result
from sfsc_training.results import Result, read_result

SWEEP = "one-as-good-as-two"
ONE, HALF, POINTS = "one-", "-half-of-two", "points of mAP"
# What the best is compared with: at the rate of the sweep, then at the others that were tried.
SFSC = ("one-sfsc", "one-sfsc-rate-4e-3", "one-sfsc-rate-8e-3", "one-sfsc-rate-1.2e-2")
TWO = ("two-frozen-soft-2000", "two-frozen-soft-rate-4e-3")
ALONE = {
    "0.25": ("alone-0.25", "alone-0.25-rate-4e-3"),
    "0.5": ("alone-0.5",),
    "0.75": ("alone-0.75",),
    "1.0": ("two-full-2000", "two-full-rate-4e-3"),
}
Groups = Mapping[str, Sequence[Result]]


def main() -> None:
    """Write the figures of the results that exist."""
    test, validation = (read_split(RESULTS / SWEEP, split) for split in ("test", "validation"))
    tried = [name for name in validation if name.startswith(ONE) and not name.endswith(HALF)]
    ranked = sorted(tried, key=lambda name: -mean(validation[name]))
    rows = {name: line(members, validation[name]) for name, members in test.items()}
    figures = compared(test, validation, ranked[0]) + options(test, ranked)
    path = write_result("omniglot28_one_training", figures, {"chosen": ranked[0], "runs": rows})
    print(f"written to {path}; best on validation identities: {', '.join(ranked[:3])}")


def read_split(folder: Path, split: str) -> dict[str, list[Result]]:
    """Results by name, seeds in order; only runs that have a result of both splits."""
    groups: dict[str, list[Result]] = {}
    for path in sorted(folder.glob("*-test.json")):
        both = {
            part: path.with_name(path.name.replace("-test.json", f"-{part}.json"))
            for part in ("validation", "test")
        }
        if both["validation"].exists():
            found = read_result(both[split])
            groups.setdefault(found.recipe.name, []).append(found)
    return groups


def line(members: Sequence[Result], validation: Sequence[Result]) -> dict[str, Any]:
    """One line of the table: as in the comparison of methods, with rate, arithmetic and the score chosen by."""
    macs = [member.training_macs for member in members]
    # Of the logged steps the results have only some, too few for a share of conflicts.
    of_matrix = {key: value for key, value in row(members).items() if not key.startswith("conflicts")}
    return of_matrix | {
        "rate": rate(members),
        "validation": mean(validation),
        "training_macs": None if None in macs else macs[0],
    }


def compared(test: Groups, validation: Groups, best: str) -> list[Figure]:
    """The best of one training against what it must reach."""
    name, ours = f"the best of one training, {best},", test[best]
    figures: list[Figure] = []
    for other, at in labelled(SFSC, validation):
        figures += over(ours, test[other], f"{name} over SFSC {at}", ">= 2")
    for other, at in labelled(ALONE["0.25"], validation):
        gain = mean(ours) - mean(test[other])
        figures.append(Figure(f"{name} over unified {at}, mean of the matrix", gain, POINTS, ">= 8"))
    for place, width in enumerate(ours[0].recipe.width_names):
        own = fmean(member.mean_ap[place][place] for member in ours)
        for other, at in labelled(ALONE[width], validation):
            text = f"{name} self-test at {width} against trained alone {at}"
            figures.append(Figure(text, own - mean(test[other]), POINTS, ">= 0"))
    for run, much, goal in ((best + HALF, "twice", ">= -0.5"), (best, "1.5 times", None)):
        for other, at in labelled(TWO, validation):
            if run in test:
                text = f"{run} over sfsc-frozen-soft {at}, which takes {much} its arithmetic, mean of the matrix"
                figures.append(Figure(text, mean(test[run]) - mean(test[other]), POINTS, goal))
    return figures


def labelled(names: Sequence[str], validation: Groups) -> list[tuple[str, str]]:
    """The first of the names and the best, if they have results, each with what is to be known of its rate."""
    found = [name for name in names if name in validation]
    if not found:
        return []
    first, best = found[0], max(found, key=lambda name: mean(validation[name]))
    at = {name: f"at rate {rate(validation[name]):g}" for name in found}
    if len(found) == 1:
        return [(first, f"{at[first]} (no other tried)")]
    too_low = [] if first == best else [(first, f"{at[first]} (not its best)")]
    return [*too_low, (best, f"{at[best]} (the best of {len(found)} tried)")]


def options(test: Groups, ranked: Sequence[str]) -> list[Figure]:
    """The best run that is not SFSC against SFSC of the same rate, at every rate that both have."""
    figures: list[Figure] = []
    for sfsc in (name for name in SFSC if name in test):
        same = [name for name in ranked if rate(test[name]) == rate(test[sfsc]) and name not in SFSC]
        if same:
            text = f"the best other run at rate {rate(test[sfsc]):g}, {same[0]}, over SFSC of the same rate"
            figures += over(test[same[0]], test[sfsc], text, None)
    return figures


def rate(members: Sequence[Result]) -> float:
    """The learning rate of a run."""
    return members[0].recipe.optimiser.lr


if __name__ == "__main__":
    main()
