"""The methods from pretrained weights without a GPU: what loss, projection and soft targets do.

    NAME=grocery-store-pretrained
    sfsc-train sweep training/sweeps/$NAME.toml --data DIR --split both --results benchmarks/results/$NAME
    python benchmarks/pretrained.py        # the figures of the results that exist

All figures but those that say so are of test identities, aligned.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from methods import alignment, mean, over, row
from one_training import line, read_split
from result_file import RESULTS, Figure, write_result
from sfsc_training.report.plots import conflict_curve, png
from sfsc_training.results import Result

SWEEP = "grocery-store-pretrained"
DATASET = "grocery-store"
POINTS = "points of mAP"
# What is asked, the method that has it, and the same method without it.
EFFECTS = (
    ("evidential loss, gradients summed", "sfsc-without-projection", "bct-s"),
    ("evidential loss, gradients projected", "sfsc", "sfsc-without-loss"),
    ("projection, base loss", "sfsc-without-loss", "bct-s"),
    ("projection, evidential loss", "sfsc", "sfsc-without-projection"),
    ("both: SFSC over BCT-S", "sfsc", "bct-s"),
    ("soft targets beside SFSC", "sfsc-soft", "sfsc"),
    ("soft targets in place of the base loss, gradients summed", "soft-targets", "bct-s"),
    ("soft targets alone over SFSC", "soft-targets", "sfsc"),
)
Groups = Mapping[str, Sequence[Result]]


def main() -> None:
    """Write the figures of the results that exist."""
    test, validation = (read(split) for split in ("test", "validation"))
    figures = [figure for what, ours, theirs in EFFECTS for figure in effect(what, ours, theirs, test, validation)]
    figures += untouched(test)
    for name, members in test.items():
        figures += alignment(DATASET, name, members, asked=False)
    rows = {name: {**row(members), **line(members, validation[name])} for name, members in test.items()}
    path = write_result("grocery-store_pretrained", figures, {"runs": rows})
    docs = Path(__file__).parents[1] / "docs"
    (docs / "pretrained-short-conflicts.png").write_bytes(png(conflict_curve(test)))
    print(f"written to {path}, from {sum(len(members) for members in test.values())} runs")


def read(split: str) -> dict[str, list[Result]]:
    """Results by method, seeds in order."""
    groups = read_split(RESULTS / SWEEP, split)
    return {name.removeprefix(f"{DATASET}-"): members for name, members in groups.items()}


def effect(what: str, ours: str, theirs: str, test: Groups, validation: Groups) -> list[Figure]:
    """One difference, on both splits; nothing where a side has no result."""
    if ours not in test or theirs not in test:
        return []
    gain = mean(validation[ours]) - mean(validation[theirs])
    return [
        *over(test[ours], test[theirs], what, None),
        Figure(f"{what}, mean of the matrix on validation identities", gain, POINTS),
    ]


def untouched(test: Groups) -> list[Figure]:
    """The full network as it was downloaded, as it is and with the closed-form map of the training images."""
    found = [member.evaluation["untouched"] for members in test.values() for member in members]
    return [
        Figure("untouched network, full width", fmean(one["mean_ap"] for one in found), POINTS),
        Figure("untouched network with its map", fmean(one["mapped"]["mean_ap"] for one in found), POINTS),
    ]


if __name__ == "__main__":
    main()
