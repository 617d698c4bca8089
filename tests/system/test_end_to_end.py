"""Images → training → bundle → service on a socket → cross-width search over HTTP, with the project's commands.

The answers of the service must rank a gallery of mixed widths as the evaluation does.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import onnx
import pytest

pytest.importorskip("torch", reason="the training extra is not installed")

import main_job
from live_service import serving
from sfsc_bundle.folder import open_bundle
from sfsc_training.config import DataSection, load_recipe
from sfsc_training.data.reader import read_folder
from tests.training.conftest import SMALL_RECIPE, draw_identities
from tests.training.foreign_graphs import embedder

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


def test_an_adopted_bundle_answers_as_its_manifest_says(tmp_path):
    data, bundle = tmp_path / "data", tmp_path / "adopted"
    draw_identities(data / "train", identities=8, shots=6, seed=1)
    draw_identities(data / "test", identities=6, shots=6, seed=2)
    onnx.save(embedder(size=(32, 32), dimension=16, seed=1), tmp_path / "large.onnx")
    onnx.save(embedder(size=(24, 24), dimension=12, seed=2), tmp_path / "small.onnx")
    models = ("--model", tmp_path / "large.onnx", "--as", 1, "--model", tmp_path / "small.onnx", "--as", 0.25)
    command("sfsc-train", "adopt", "--to", bundle, "--data", data, *models, "--set", "data.query='*_0.png'")
    quality = open_bundle(bundle).manifest.quality
    split = read_folder(data, DataSection(query="*_0.png"), 0).test
    with serving(bundle, tmp_path, len(split.gallery)) as client:
        main_job.insert(client, split, dict.fromkeys((split.names[place] for place in split.gallery), "1.0"))
        for row, width in enumerate(quality.widths):
            found = main_job.search_all(client, split, width)
            assert found.mean_ap == pytest.approx(quality.mean_ap[row][1], abs=0.05)
