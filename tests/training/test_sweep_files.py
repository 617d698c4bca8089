"""The sweeps of this repository: each can be run, and the committed results are those of its recipes."""

import json
from pathlib import Path

import pytest

from sfsc_training.sweep import read_sweep

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "training" / "sweeps").glob("*.toml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_can_be_run_and_would_repeat_the_results_that_are_committed(path):
    planned = {plan.folder: plan.recipe.sha256 for plan in read_sweep(path)}
    assert planned
    for file in (ROOT / "benchmarks" / "results" / path.stem).glob("*.json"):
        found = json.loads(file.read_text())["data"]["recipe_sha256"]
        assert found == planned.get(file.stem.rpartition("-")[0]), file.name
