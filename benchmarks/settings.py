"""Which settings of the losses work on omniglot28, by validation identities: the recipe and its alternatives.

    python benchmarks/settings.py          # one run of 800 steps per setting, resumable; SFSC_DATASETS

One seed: a guide to what fails and what works, not a ranking of what is close.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from main_job import command, unpack
from result_file import Figure, write_result

STEPS = 800
TRIALS = {
    "A": ("evidential, exp evidence, W = K, cosine × 16 (the recipe)", []),
    "C": ("cross-entropy on every width", ["method=ce-projection", "loss.compatible=cross-entropy"]),
    "softplus": ("evidential, softplus evidence", ["loss.evidential.evidence=softplus"]),
    "linear": ("evidential, exp evidence, unnormalised logits", ["loss.logits=linear"]),
}


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/settings"))
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    data = unpack("omniglot28", arguments.work)
    found = {name: trial(name, data, arguments.work, arguments.steps) for name in TRIALS}
    figures = [
        Figure(f"validation mAP, mean of the matrix: {TRIALS[name][0]}", result["summary"]["mean"], "points")
        for name, result in found.items()
    ]
    rows = {name: {"setting": TRIALS[name][0], "set": TRIALS[name][1]} | result for name, result in found.items()}
    print(
        "written to",
        write_result("settings_omniglot28", figures, {"steps": arguments.steps, "trials": rows}, seed=0),
    )


def trial(name: str, data: Path, work: Path, steps: int) -> Any:
    """One run, evaluated on validation identities."""
    run = work / name
    settings = [word for change in [f"optimiser.steps={steps}", *TRIALS[name][1]] for word in ("--set", change)]
    command("sfsc-train", "train", "omniglot28-sfsc", "--data", data, "--out", run, *settings)
    command("sfsc-train", "evaluate", run, "--data", data, "--split", "validation")
    return json.loads((run / "evaluation-validation.json").read_text())


if __name__ == "__main__":
    main()
