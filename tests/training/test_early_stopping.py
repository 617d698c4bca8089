"""Early stopping: the best weights are the result, and a resumed run stops at the same step."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from sfsc_bundle.retrieval import evaluate
from sfsc_training import loop
from sfsc_training.checkpoint import read_checkpoint, read_recipe
from sfsc_training.config import load_recipe
from sfsc_training.data.images import load_images
from sfsc_training.data.reader import read_folder
from sfsc_training.early_stopping import EarlyStopping, counted_from
from sfsc_training.embed import embed
from sfsc_training.history import read_history
from sfsc_training.loop import RunOptions, train
from sfsc_training.report.plots import curves
from sfsc_training.results import Result
from sfsc_training.run import open_run

QUIET = Console(quiet=True)
# The rate is so high that the weights get worse and better again.
SETTINGS = (
    "data.query=",
    "data.validation_share=0.5",
    "optimiser.lr=0.05",
    "optimiser.schedule=step",
    "optimiser.steps=30",
)
LOOKS = ("early_stopping={ every = 2, patience = 3 }",)


@pytest.fixture(scope="module")
def small_data(tmp_path_factory):
    """Identities that are hard to tell apart: small marks of their own on the same image, under noise."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("alike")
    for part, identities in (("train", 16), ("test", 2)):
        for number in range(identities):
            mark, place = random.normal(0, 25, (4, 4, 3)), folder / part / f"{part}{number:02}"
            place.mkdir(parents=True)
            for shot in range(4):
                noisy = 128 + np.kron(mark, np.ones((8, 8, 1))) + random.normal(0, 60, (32, 32, 3))
                Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(place / f"c1_{shot}.png")
    return folder


def run(recipe_file, data, folder, *settings, **options):
    recipe = load_recipe(str(recipe_file), [*SETTINGS, *settings])
    dataset = read_folder(data, recipe.data, recipe.seed)
    train(recipe, dataset, folder, QUIET, RunOptions(threads=1, workers=0, **options))
    return read_checkpoint(folder)


def looks(folder):
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return {line["step"] + 1: line["validation"] for line in lines if "validation" in line}


@pytest.fixture(scope="module")
def stopped(small_recipe, small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped") / "run"
    return folder, run(small_recipe, small_data, folder, *LOOKS)


def test_a_run_ends_where_no_look_has_been_better_for_a_while(stopped):
    folder, checkpoint = stopped
    found = looks(folder)
    assert list(found) == list(range(2, checkpoint.step + 1, 2))
    best = max(found, key=found.get)
    assert len(set(found.values())) > 1
    assert checkpoint.step == best + 3 * 2 < 30
    assert (checkpoint.best["step"], checkpoint.best["score"]) == (best, found[best])
    assert checkpoint.finished


def test_the_report_draws_every_look_though_steps_are_thinned(stopped):
    folder, _ = stopped
    found = looks(folder)
    history = read_history(folder, points=len(found))
    assert len(read_history(folder, points=2)) <= 4 < len(found)
    assert {entry["step"] + 1: entry["validation"] for entry in history if "validation" in entry} == found
    unlooked = [{key: value for key, value in entry.items() if key != "validation"} for entry in history]
    recipe = read_recipe(folder)
    drawn = curves({"with": [Result(recipe, {}, history)], "without": [Result(recipe, {}, unlooked)]})
    (axes,) = drawn["validation"].axes
    (line,) = axes.lines
    assert list(zip(*line.get_data(), strict=True)) == list(found.items())
    assert "validation" not in curves({"without": [Result(recipe, {}, unlooked)]})


def test_the_best_weights_are_those_of_a_run_of_that_length_and_the_result(
    stopped, small_recipe, small_data, tmp_path
):
    folder, checkpoint = stopped
    best = checkpoint.best["step"]
    plain = run(small_recipe, small_data, tmp_path / "plain", f"optimiser.steps={best}")
    opened = open_run(folder)
    assert opened.step == best
    assert all(torch.equal(values, opened.family.state_dict()[name]) for name, values in plain.network.items())
    assert torch.equal(plain.classifier["weight"], opened.classifier.weight)
    assert checkpoint.weights_sha256 == plain.weights_sha256
    assert not torch.equal(checkpoint.network["embedding.weight"], plain.network["embedding.weight"])
    recipe = load_recipe(str(small_recipe), SETTINGS)
    split = read_folder(small_data, recipe.data, recipe.seed).validation
    images, labels, scores = load_images(split.paths, recipe.data), split.labels(), []
    for index in (0, 1):
        rows = embed(opened.family, images, index)
        queries, gallery = labels.take(split.query), labels.take(split.gallery)
        scores.append(evaluate(rows[split.query], queries, rows[split.gallery], gallery).mean_ap)
    assert sum(scores) / 2 == pytest.approx(checkpoint.best["score"])


@pytest.mark.parametrize("every", [1, 3])
def test_a_run_cut_off_stops_at_the_same_step(stopped, small_recipe, small_data, tmp_path, monkeypatch, every):
    folder, whole = stopped
    write = loop.write_checkpoint

    def write_and_die(place, checkpoint):
        write(place, checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", write_and_die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(small_recipe, small_data, tmp_path / "cut", *LOOKS, checkpoint_every=every)
    monkeypatch.undo()
    cut = run(small_recipe, small_data, tmp_path / "cut", *LOOKS, checkpoint_every=every)
    assert (cut.step, cut.finished, cut.best["step"]) == (whole.step, True, whole.best["step"])
    assert cut.weights_sha256 == whole.weights_sha256
    assert looks(tmp_path / "cut") == looks(folder)
    again = run(small_recipe, small_data, tmp_path / "cut", *LOOKS)
    assert again.step == whole.step


@pytest.mark.parametrize("setting", ["optimiser.full_first=0.5", "augmentation.growing=[[0.3, 0.5], [0.2, 0.75]]"])
def test_looks_count_once_all_widths_learn_on_images_of_the_last_size(small_recipe, small_data, tmp_path, setting):
    checkpoint = run(small_recipe, small_data, tmp_path / "run", *LOOKS, "method=x", setting)
    found = looks(tmp_path / "run")
    counted = {step: score for step, score in found.items() if step > 15}
    assert list(found)[:7] == [2, 4, 6, 8, 10, 12, 14]  # 3 looks without a better one, and more, ended nothing
    assert (checkpoint.best["step"], checkpoint.best["score"]) == max(counted.items(), key=lambda look: look[1])


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ((), 0),
        (("optimiser.full_first=0.1", "augmentation.growing=[[0.5, 0.5], [0.3, 0.75]]"), 24),
        (("augmentation.growing=[[0.5, 0.5], [0.5, 0.75]]",), 15),  # never at full size
        (("optimiser.full_first=0.35",), 11),
    ],
)
def test_the_step_after_which_looks_count(small_recipe, settings, step):
    assert counted_from(load_recipe(str(small_recipe), [*SETTINGS, "method=x", *settings])) == step


def test_averaged_weights_are_what_is_scored_and_kept(small_recipe, small_data, tmp_path):
    section = ("early_stopping={ every = 1, patience = 20 }", "optimiser.ema=0.5", "optimiser.steps=6")
    checkpoint = run(small_recipe, small_data, tmp_path / "run", *section)
    best = checkpoint.best["step"]
    averaged = run(small_recipe, small_data, tmp_path / "averaged", "optimiser.ema=0.5", f"optimiser.steps={best}")
    assert checkpoint.weights_sha256 == averaged.weights_sha256


def test_without_validation_identities_a_run_has_its_full_length(small_recipe, small_data, tmp_path):
    one = "data.validation_share=0.06"  # of 16 identities
    checkpoint = run(small_recipe, small_data, tmp_path / "run", *LOOKS, one, "optimiser.steps=4")
    assert (checkpoint.step, checkpoint.best, checkpoint.finished) == (4, None, True)


def test_the_first_of_equal_looks_counts(small_recipe, small_data):
    recipe = load_recipe(str(small_recipe), [*SETTINGS, *LOOKS])
    dataset = read_folder(small_data, recipe.data, recipe.seed)
    state = loop.make_state(recipe, len(dataset.train.identities), None, "cpu")
    images = load_images(dataset.validation.paths, recipe.data)
    stopping = EarlyStopping(recipe.early_stopping, dataset.validation, images)
    first = stopping.look(state, 2)
    assert stopping.look(state, 4) == first
    assert state.best.step == 2
    assert [stopping.is_over(state, steps) for steps in (6, 7, 8)] == [False, False, True]
