"""Images → training → bundle → service on a socket → cross-width search over HTTP, with the project's commands.

The answers of the service must rank a gallery of mixed widths as the evaluation does.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the training extra is not installed")

import main_job
from live_service import serving
from sfsc_training.config import load_recipe
from sfsc_training.data.reader import read_folder
from tests.training.conftest import SMALL_RECIPE, draw_identities

OMNIGLOT = """
name = "few-characters"
[data]
height = 28
width = 28
query = "*_01.png"
[network]
backbone = "resnet10t"
arguments = { stem_type = "", channels = [16, 16, 32, 32] }
stem = "3x3"
stem_stride = 2
image_channels = 1
dimension = 32
[optimiser]
steps = 40
batch = 32
lr = 0.005
warmup_steps = 5
"""


def command(*words: object) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    script = Path(sys.executable).with_name(str(words[0]))
    done = subprocess.run(
        [script, *map(str, words[1:])], capture_output=True, text=True, env=environment, timeout=250
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=["drawn", pytest.param("omniglot28", marks=pytest.mark.data)])
def job(request, tmp_path, image_set):
    """A recipe file and a data folder."""
    recipe = tmp_path / "recipe.toml"
    if request.param == "drawn":
        recipe.write_text(SMALL_RECIPE)
        draw_identities(tmp_path / "data" / "train", identities=8, shots=6, seed=1)
        draw_identities(tmp_path / "data" / "test", identities=6, shots=6, seed=2)
        return recipe, tmp_path / "data"
    recipe.write_text(OMNIGLOT)
    return recipe, image_set("omniglot28", identities=20)


def test_the_service_ranks_as_the_evaluation_does(job, tmp_path):
    recipe_file, data = job
    recipe = load_recipe(str(recipe_file))
    run, bundle, assignment = tmp_path / "run", tmp_path / "bundle", tmp_path / "assignment.json"
    split = read_folder(data, recipe.data, recipe.seed).test
    main_job.draw_widths(split, recipe.width_names, assignment, seed=4)
    command("sfsc-train", "train", recipe_file, "--data", data, "--out", run, "--threads", 1, "--workers", 0)
    command("sfsc-train", "evaluate", run, "--data", data, "--assignment", assignment)
    command("sfsc-train", "export", run, "--data", data, "--to", bundle)
    evaluated = json.loads((run / "evaluation-test.json").read_text())["mixed"]
    with serving(bundle, tmp_path, len(split.gallery)) as client:
        main_job.insert(client, split, json.loads(assignment.read_text()))
        composition = client.get("/widths").json()
        for width in recipe.width_names:
            found = main_job.search_all(client, split, width)
            assert found.mean_ap == pytest.approx(evaluated[width]["mean_ap"], abs=0.05)
            assert found.rank1 == pytest.approx(evaluated[width]["rank1"], abs=100 / len(split.query) + 0.01)
    drawn = list(json.loads(assignment.read_text()).values())
    assert composition["gallery"]["widths"] == dict(Counter(drawn)), composition["gallery"]
