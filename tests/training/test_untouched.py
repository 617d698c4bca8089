"""The figure that a training from pretrained weights is measured against."""

import dataclasses
import itertools
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from rich.console import Console
from torch.nn import functional as F

from sfsc_bundle.retrieval import evaluate
from sfsc_training.config import load_recipe, parse_recipe
from sfsc_training.continuation import continued_recipe
from sfsc_training.data.images import load_images
from sfsc_training.data.read import read_dataset
from sfsc_training.networks.published_weights import published_weights
from sfsc_training.report.page import write_report
from sfsc_training.results import read_result
from sfsc_training.run import open_run
from sfsc_training.untouched import evaluate_untouched, shortfall
from sfsc_vehicles import write_splits
from tests.training.conftest import said

QUIET = Console(quiet=True)
NETWORK = {"backbone": "mobilenetv2_100", "dimension": 8}


@pytest.fixture
def recipe_of(tmp_path):
    sizes = {"train": 2, "test": 6, "shots": 1, "size": 64}
    write_splits(tmp_path / "vehicles", 0, **sizes, twin_share=0.0, workers=1, progress=lambda _: None)
    return lambda network: parse_recipe(
        {"name": "untouched", "data": {"height": 64, "width": 64, "validation_share": 0}, "network": network}
    )


def test_the_untouched_network_is_scored_by_its_own_features(recipe_of, tmp_path):
    recipe = recipe_of(NETWORK | {"weights": "mobilenetv2"})
    dataset = read_dataset(tmp_path / "vehicles", recipe.data, recipe.seed)
    split = dataset.test
    known = published_weights("mobilenetv2")
    source = timm.create_model(known.backbone)
    source.load_state_dict(known.state(), strict=False)
    source.reset_classifier(0)
    pixels = torch.from_numpy(load_images(split.paths, recipe.data)).permute(0, 3, 1, 2) / 255
    mean, deviation = (
        torch.tensor(v).view(3, 1, 1) for v in (known.normalisation.mean, known.normalisation.deviation)
    )
    with torch.inference_mode():
        rows = F.normalize(source.eval()((pixels - mean) / deviation)).numpy()
    labels = split.labels()
    wanted = evaluate(rows[split.query], labels.take(split.query), rows[split.gallery], labels.take(split.gallery))
    found = evaluate_untouched(recipe, dataset, "test", "cpu", QUIET)
    assert found is not None
    assert found["mapped"] is None  # 16 training images are too few for a map of 1,280 features
    assert np.allclose([found["mean_ap"], found["rank1"]], [wanted.mean_ap, wanted.rank1], atol=1e-6)
    assert 0 < wanted.mean_ap < 100


def test_a_recipe_that_starts_from_nothing_has_no_such_figure(recipe_of, tmp_path):
    recipe = recipe_of(NETWORK)
    dataset = read_dataset(tmp_path / "vehicles", recipe.data, recipe.seed)
    assert evaluate_untouched(recipe, dataset, "test", "cpu", QUIET) is None


@pytest.fixture(scope="module")
def trained(small_recipe, small_data, weights, tmp_path_factory):
    """A run from these weights that hardly trains, and what the command said."""
    folder = tmp_path_factory.mktemp("untouched") / "run"
    settings = ("network.stem=timm", f"network.weights_file={weights}", "optimiser.steps=1", "optimiser.lr=1e-9")
    words = ["--out", folder, "--workers", 0, *(word for setting in settings for word in ("--set", setting))]
    return folder, said("train", small_recipe, "--data", small_data, *words)


def test_a_training_ends_with_the_untouched_network_beside_it(trained):
    _, text = trained
    end = text.partition("alignment of small")[2]
    assert re.search(r"untouched network \(resnet10t at 32 × 32 pixels\), validation, as it came: mAP [\d.]+", end)
    assert re.search(r"width 1\.0, validation: mAP [\d.]+, rank-1 [\d.]+", end)


def test_evaluate_shows_and_stores_the_untouched_network_first(trained, small_data):
    folder, _ = trained
    text = said("evaluate", folder, "--data", small_data)
    stored = json.loads((folder / "evaluation-test.json").read_text())
    found = stored["untouched"]
    first = text[text.index("untouched network") :]
    assert first.index(f"test, as it came: mAP {found['mean_ap']:.1f}") < first.index("rows: query width")
    assert f"with a map, as adopt makes it: mAP {found['mapped']['mean_ap']:.1f}" in first
    dataset = read_dataset(small_data, open_run(folder).recipe.data, 0)
    assert len(dataset.train.paths) >= 16
    assert found["mapped"]["queries"] == found["queries"] == stored["queries"]


def test_a_run_that_ends_below_the_untouched_network_says_so(trained, small_data):
    folder, _ = trained
    recipe = open_run(folder).recipe
    found = {"mean_ap": 40.0, "rank1": 60.0, "mapped": None}
    assert shortfall(found, 40.0, recipe, small_data) is None
    sentence = shortfall(found, 39.0, recipe, small_data)
    assert sentence.startswith("width 1.0 has 39.0 mAP, less than the network that it began from has without any")
    better = found | {"mapped": found | {"mean_ap": 50.0}}
    assert "(50.0)" in shortfall(better, 45.0, recipe, small_data)
    photos = load_recipe("photos")
    command = "sfsc-train adopt --weights efficientnet-lite0 --size 128x128 --recipe photos --data mine --to"
    assert command in shortfall(found, 39.0, photos, Path("mine"))
    other = load_recipe("photos", ["seed=3", "data.query=*_1.jpg", "network.weights=mobilenetv2"])
    words = shlex.split(shortfall(found, 39.0, other, Path("mine")).partition("makes a bundle of: ")[2])
    settings = [word for before, word in itertools.pairwise(words) if before == "--set"]
    read_as = load_recipe(None, settings)
    assert (read_as.seed, read_as.data) == (3, other.data)


def test_a_run_that_starts_from_another_began_from_its_weights(trained, small_data):
    folder, _ = trained
    recipe = continued_recipe(folder, None, [])
    dataset = read_dataset(small_data, recipe.data, recipe.seed)
    there = evaluate_untouched(open_run(folder).recipe, dataset, "test", "cpu", QUIET)
    assert not recipe.network.from_weights
    assert evaluate_untouched(recipe, dataset, "test", "cpu", QUIET) == there


def test_a_report_shows_the_untouched_network_first(trained, small_data, tmp_path):
    folder, _ = trained
    said("evaluate", folder, "--data", small_data)
    result = read_result(folder)
    page = write_report([result], tmp_path / "report").read_text()
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>", page)
    scores = [result.untouched, result.untouched["mapped"]]
    assert rows[0] == ("resnet10t at 32 × 32 pixels", "untouched", "–", f"{scores[0]['mean_ap']:.1f}")
    assert rows[1][1:] == ("untouched, with a map", "–", f"{scores[1]['mean_ap']:.1f}")
    assert rows[2][0] == "small"
    assert rows[2][3] == f"{result.mean_ap[-1][-1]:.1f}"  # of width 1.0, as the two above it
    head = re.findall(r"<th>(.*?)</th>", page.partition("</table>")[0])
    terms = re.findall(r"<dt>(.*?)</dt><dd>.+?</dd>", page)
    assert terms == head[3:-1]
    assert result.bundle_differs.startswith("the bundle will differ from this run: 2 validation identities")
    assert f"<p>small: {result.bundle_differs}.</p>" in page
    better = result.evaluation | {"untouched": result.untouched | {"mean_ap": 100.0}}
    worse = dataclasses.replace(result, evaluation=better | {"mean_ap": [[1.0, 1.0], [1.0, 2.0]]})
    text = write_report([worse], tmp_path / "worse").read_text()
    assert "Width 1.0 of small has 2.0 mAP, less than the network that it began from has without" in text
    assert (
        "less than the network"
        not in write_report(
            [dataclasses.replace(result, evaluation=better | {"mean_ap": [[100.0] * 2] * 2})], tmp_path / "not"
        ).read_text()
    )
