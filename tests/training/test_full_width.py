"""Which network becomes width 1.0 of a bundle: the trained one only where it is shown to be better."""

import re

import numpy as np
import pytest
import torch
from rich.console import Console

from sfsc_bundle.folder import open_bundle
from sfsc_bundle.runner import make_runner
from sfsc_training.config import load_recipe
from sfsc_training.data.images import load_images
from sfsc_training.data.read import read_dataset
from sfsc_training.datasets import open_with_data
from sfsc_training.embed import unit_rows
from sfsc_training.full_width import reason_to_exchange
from sfsc_training.networks.switchable import make_switchable_family
from sfsc_training.untouched import evaluate_untouched
from tests.training.conftest import draw_identities, said

QUIET = Console(quiet=True)


def train(recipe, data, weights, folder, **settings):
    given = {"network.stem": "timm", "network.weights_file": weights, **settings}
    words = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    return said("train", recipe, "--data", data, "--out", folder, "--workers", 0, *words)


@pytest.fixture(scope="module")
def few(small_recipe, small_data, weights, tmp_path_factory):
    """A run with 6 identities to train on and 2 of validation, and what its training said."""
    folder = tmp_path_factory.mktemp("few") / "run"
    return folder, train(small_recipe, small_data, weights, folder)


def test_few_identities_leave_width_1_as_it_came(few, small_data, tmp_path):
    folder, text = few
    reason = "2 validation identities, fewer than 5, cannot show that training helped"
    sentence = f"{reason}: export puts the untouched network at width 1.0 (--as-trained: the trained one)"
    assert sentence in text
    exported = said("export", folder, "--data", small_data, "--to", tmp_path / "bundle")
    assert sentence in exported
    bundle, recipe = open_bundle(tmp_path / "bundle"), open_with_data(folder, small_data, QUIET)[0].recipe
    assert bundle.manifest.widths == ("0.5", "1.0")
    test = read_dataset(small_data, recipe.data, recipe.seed)
    pixels = load_images(test.test.paths, recipe.data)
    network = make_switchable_family(recipe.network, [1.0]).eval()
    wanted = unit_rows(network.pooled, pixels, torch.device("cpu"))
    assert wanted.shape[1] == bundle.manifest.dimension == 16
    assert np.einsum("ij,ij->i", make_runner(bundle, "1.0", threads=1)(pixels), wanted).min() > 0.9999
    found = evaluate_untouched(recipe, test, "test", "cpu", QUIET)
    quality = bundle.manifest.quality
    assert quality.mean_ap[-1][-1] == pytest.approx(found["mean_ap"], abs=0.01)
    own, mixed = (" ".join(f"{v:.1f}" for v in row) for row in (quality.mean_ap[-1], quality.mixed.mean_ap[-1:]))
    assert f"query width 1.0: mAP {own} by width of the gallery, mixed {mixed} (test split, 4" in exported
    evaluated = said("evaluate", folder, "--data", small_data)
    assert f"the bundle will differ from this run: {sentence}; at width 1.0 it then has" in evaluated
    assert f"{found['mean_ap']:.1f} mAP and {found['rank1']:.1f} rank-1 on these test identities" in evaluated
    assert "which --raw leaves out here" not in evaluated
    models = bundle.manifest.provenance.models
    assert [(model.width, model.map) for model in models] == [("0.5", models[0].map), ("1.0", "none")]
    assert models[0].map != "none"
    assert models[0].source == "small, seed 0, 12 steps"
    assert models[1].source == "timm resnet10t, weights.pth"


def test_the_trained_network_can_be_wanted(few, small_data, tmp_path):
    folder, _ = few
    assert "untouched" not in said(
        "export", folder, "--data", small_data, "--to", tmp_path / "bundle", "--as-trained"
    )
    assert open_bundle(tmp_path / "bundle").manifest.provenance.kind == "trained"


def test_narrow_widths_of_too_few_images_are_left_out(small_recipe, small_data, weights, tmp_path):
    folder = tmp_path / "run"
    train(small_recipe, small_data, weights, folder, **{"network.dimension": 64, "optimiser.steps": 1})
    text = said("export", folder, "--data", small_data, "--to", tmp_path / "bundle")
    assert "leaves out the narrower widths: 36 training images are fewer than the 64 dimensions" in text
    size = "vectors of 16 numbers, not 64 as planned: 0.25 times the memory for a gallery"
    assert text.count(size) == 2  # before and after
    assert open_bundle(tmp_path / "bundle").manifest.widths == ("1.0",)


@pytest.mark.parametrize(("rate", "better"), [("0.01", True), ("1e-9", False)])
def test_enough_validation_identities_decide(small_recipe, tmp_path, rate, better, weights, monkeypatch):
    data = draw_identities(tmp_path / "data" / "train", identities=20, shots=6, seed=3).parent
    draw_identities(data / "test", identities=4, shots=4, seed=4)
    text = train(small_recipe, data, weights, tmp_path / "run", **{"optimiser.lr": rate})
    untouched, full = (
        float(found)
        for found in re.search(
            r"validation, as it came: mAP ([\d.]+).*width 1\.0, validation: mAP ([\d.]+)", text
        ).groups()
    )
    assert (full >= untouched) is better
    run, dataset = open_with_data(tmp_path / "run", data, QUIET)
    assert reason_to_exchange(run, dataset, QUIET) is None
    below = f"width 1.0 has {full:.1f} mAP on 5 validation identities, the untouched network {untouched:.1f}"
    assert (f"{below} (as low by chance: " in text) is not better
    assert ("which shows no loss: the trained network stays" in text) is not better
    monkeypatch.setattr("sfsc_training.untouched._CHANCE", 1.0)
    reason = reason_to_exchange(run, dataset, QUIET)
    assert reason is None if better else reason.startswith(below)


def test_a_network_from_nothing_is_exported_as_trained(small_recipe, small_data, tmp_path):
    said("train", small_recipe, "--data", small_data, "--out", tmp_path / "run", "--workers", 0)
    assert reason_to_exchange(*open_with_data(tmp_path / "run", small_data, QUIET), QUIET) is None
    assert load_recipe(str(small_recipe)).network.from_weights is False
