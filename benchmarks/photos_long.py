"""`photos-long` on grocery-store without a GPU: what its hours give, with the curve on validation identities.

    NAME=photos-long
    sfsc-train sweep training/sweeps/$NAME.toml --data DIR --split both --results benchmarks/results/$NAME
    python benchmarks/photos_long.py       # the figures of that result

The accuracies are of test identities, aligned; the curve is of validation identities. The hours are those of one
process that was not interrupted, by its own count of images per second, with whatever else the machine had to do.
"""

import json
from pathlib import Path
from statistics import fmean

from methods import mean, row
from one_training import line, read_split
from result_file import RESULTS, Figure, write_result
from sfsc_training.report.plots import png, validation_curve
from sfsc_training.results import Result

NAME = "photos-long"
POINTS = "points of mAP"
SELF_TESTS = {"0.25": 46, "0.5": 50, "0.75": 60, "1.0": 65}
MEAN, GAP = 50.5, -1.5


def main() -> None:
    """Write the figures and the curve."""
    test, validation = (read_split(RESULTS / NAME, split)[NAME] for split in ("test", "validation"))
    found = row(test) | line(test, validation)
    figures = [
        Figure(f"self-test at {width}", found["matrix"][place][place], POINTS, f">= {SELF_TESTS[width]}")
        for place, width in enumerate(test[0].recipe.width_names)
    ]
    short = json.loads((RESULTS / "photos_grocery-store.json").read_text())["data"]["evaluation"]
    figures += [
        Figure("mean of the matrix", mean(test), POINTS, f">= {MEAN}"),
        Figure("mixed gallery against its row's mean, worst width", min(found["gaps"]), POINTS, f">= {GAP}"),
        Figure("mean of the matrix over that of `photos`", mean(test) - short["summary"]["mean"], POINTS),
        Figure("hours of training", fmean(map(hours, test)), "h"),
    ]
    path = write_result("photos_long", figures, {"runs": {NAME: found}})
    docs = Path(__file__).parents[1] / "docs"
    (docs / "photos-long-validation.png").write_bytes(png(validation_curve({NAME: test})))
    print(f"written to {path}, from {len(test)} runs")


def hours(run: Result) -> float:
    """Time of the training, its looks at validation identities among it."""
    last = run.history[-1]
    return (last["step"] + 1) * run.recipe.optimiser.batch / last["images_per_s"] / 3600


if __name__ == "__main__":
    main()
