"""One training against two at equal arithmetic, on omniglot28: the figures asked, from the results of the sweep.

    NAME=one-as-good-as-two
    sfsc-train sweep training/sweeps/$NAME.toml --data DIR --split both --results benchmarks/results/$NAME
    python benchmarks/one_training.py      # the figures of the results that exist

The best of one training is chosen on validation identities; every figure is of test identities, aligned.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from methods import mean, over, row
from result_file import RESULTS, Figure, write_result
from sfsc_training.results import Result, read_result

SWEEP = "one-as-good-as-two"
ONE, HALF, TWO = "one-", "-half-of-two", "two-frozen-soft-2000"
Groups = Mapping[str, Sequence[Result]]


def main() -> None:
    """Write the figures of the results that exist."""
    test, validation = (read_split(RESULTS / SWEEP, split) for split in ("test", "validation"))
    tried = {name: found for name, found in validation.items() if name.startswith(ONE) and not name.endswith(HALF)}
    ranked = sorted(tried, key=lambda name: -mean(tried[name]))
    rows = {name: line(members, validation[name]) for name, members in test.items()}
    figures = compared(test, ranked[0])
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
    """One line of the table: as in the comparison of methods, with the score chosen by and the arithmetic."""
    macs = [member.training_macs for member in members]
    return row(members) | {
        "validation": [member.mean for member in validation],
        "training_macs": None if None in macs else macs[0],
    }


def compared(groups: Groups, best: str) -> list[Figure]:
    """The best of one training against what it must reach."""
    name, ours, figures = f"the best of one training, {best},", groups[best], []
    if "one-sfsc" in groups:
        figures += over(ours, groups["one-sfsc"], f"{name} over SFSC", ">= 2")
    same = next((other for other in groups if is_sfsc_of(groups[other][0], ours[0])), None)
    if same is not None and same != "one-sfsc":
        figures += over(ours, groups[same], f"{name} over SFSC of its rate and batch", None)
    if "alone-0.25" in groups:
        gain = mean(ours) - mean(groups["alone-0.25"])
        figures.append(Figure(f"{name} over unified, mean of the matrix", gain, "points of mAP", ">= 8"))
    for place, width in enumerate(ours[0].recipe.width_names):
        alone = groups.get("two-full-2000" if width == "1.0" else f"alone-{width}")
        if alone is not None:
            own = np.mean([member.mean_ap[place][place] for member in ours])
            figures.append(
                Figure(
                    f"{name} self-test at {width} against trained alone",
                    float(own - mean(alone)),
                    "points of mAP",
                    ">= 0",
                )
            )
    half = groups.get(best + HALF)
    if half is not None and TWO in groups:
        text = f"{best}{HALF} over {TWO}, of twice its arithmetic, mean of the matrix"
        figures.append(Figure(text, mean(half) - mean(groups[TWO]), "points of mAP", ">= -0.5"))
    return figures


def is_sfsc_of(other: Result, ours: Result) -> bool:
    """Whether a run is SFSC with the rate and batch of another."""
    here, there = other.recipe.optimiser, ours.recipe.optimiser
    return other.recipe.method == "sfsc" and (here.lr, here.batch) == (there.lr, there.batch)


if __name__ == "__main__":
    main()
