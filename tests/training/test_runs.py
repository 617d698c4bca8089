"""Training, evaluation and export of a small network on small images, through the command's own functions."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from rich.console import Console

from sfsc_bundle.folder import open_bundle
from sfsc_bundle.manifest import Normalisation
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import make_runner
from sfsc_training import loop
from sfsc_training.checkpoint import read_checkpoint
from sfsc_training.cli import main
from sfsc_training.config import load_recipe
from sfsc_training.data.reader import read_folder
from sfsc_training.errors import CheckpointError, DivergenceError, ExportError
from sfsc_training.evaluation import embed_split, evaluate_split, mixed_gallery
from sfsc_training.export import export
from sfsc_training.loop import RunOptions, train
from sfsc_training.optimisers import learning_rate
from sfsc_training.run import open_run
from tests.training.conftest import draw_identities

QUIET = Console(quiet=True)
OPTIONS = RunOptions(threads=1, workers=0, checkpoint_every=5)


def run_training(recipe_file, data, folder, *settings, options=OPTIONS):
    recipe = load_recipe(str(recipe_file), settings)
    dataset = read_folder(data, recipe.data, recipe.seed)
    train(recipe, dataset, folder, QUIET, options)
    return dataset


def parameters(folder):
    checkpoint = read_checkpoint(folder)
    return {**checkpoint.network, **{f"classifier.{k}": v for k, v in checkpoint.classifier.items()}}


@pytest.fixture(scope="module")
def finished(small_recipe, small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "finished"
    return folder, run_training(small_recipe, small_data, folder)


def test_a_run_learns_and_leaves_its_history(small_recipe, small_data, tmp_path):
    run_training(small_recipe, small_data, tmp_path / "run", "optimiser.steps=76", "optimiser.warmup_steps=5")
    lines = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 25, 50, 75]
    for width in ("0.5", "1.0"):
        assert lines[-1]["loss"][width] < 0.7 * lines[0]["loss"][width]
        assert lines[-1]["gradient_norm"][width] > 0
    assert set(lines[0]["uncertainty"]) == {"0.5"}
    assert len(json.loads((tmp_path / "run/labels.json").read_text())) == 6


@pytest.mark.parametrize("settings", [(), ("method=mine", "aggregation.scope=overlap", "loss.logits=linear")])
def test_a_run_cut_off_goes_on_to_the_same_parameters(small_recipe, small_data, tmp_path, monkeypatch, settings):
    run_training(small_recipe, small_data, tmp_path / "whole", *settings)
    write = loop.write_checkpoint

    def write_and_die(folder, checkpoint):
        write(folder, checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", write_and_die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_training(small_recipe, small_data, tmp_path / "cut", *settings)
    monkeypatch.undo()
    run_training(small_recipe, small_data, tmp_path / "cut", *settings)
    whole, cut = parameters(tmp_path / "whole"), parameters(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_seed_decides(small_recipe, small_data, finished, tmp_path):
    run_training(small_recipe, small_data, tmp_path / "other", "seed=1")
    run_training(small_recipe, small_data, tmp_path / "same")
    same, other, first = parameters(tmp_path / "same"), parameters(tmp_path / "other"), parameters(finished[0])
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_learning_rate_warms_up_and_falls_to_zero(small_recipe):
    section = load_recipe(str(small_recipe)).optimiser.model_copy(
        update={"steps": 100, "warmup_steps": 10, "lr": 1.0}
    )
    rates = [learning_rate(step, section) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3


def test_divergence_names_width_and_step(small_recipe, small_data, tmp_path):
    with pytest.raises(DivergenceError, match=r"the loss of width (0.5|1.0) is (nan|inf) at step [1-9]"):
        run_training(small_recipe, small_data, tmp_path, "optimiser.lr=1e30", "loss.logits=linear")


def test_divergence_before_the_first_update_is_not_blamed_on_the_rate(small_recipe, small_data, tmp_path):
    with pytest.raises(DivergenceError, match="at step 0; before the first update this comes of the settings"):
        run_training(small_recipe, small_data, tmp_path, "loss.scale=1e30")


def test_a_run_whose_last_update_spoils_the_weights_is_not_finished(small_recipe, small_data, tmp_path):
    settings = (
        "optimiser.lr=1e30",
        "optimiser.warmup_steps=0",
        "optimiser.steps=1",
        "optimiser.weight_decay=1e30",
    )
    with pytest.raises(DivergenceError, match=r"weights are not finite after step 0; try optimiser.lr=5e\+29"):
        run_training(small_recipe, small_data, tmp_path, *settings)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_run_of_something_else_is_refused(small_recipe, small_data, finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    with pytest.raises(CheckpointError, match="a run of another recipe"):
        run_training(small_recipe, small_data, folder, "optimiser.steps=30")
    changed = shutil.copytree(small_data, tmp_path / "data")
    next((changed / "train").glob("*/*.png")).unlink()
    with pytest.raises(CheckpointError, match="was trained with another data set"):
        run_training(small_recipe, changed, folder)
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["network"]["dimension"] = 8
    (folder / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(CheckpointError, match="does not fit the recipe's network"):
        open_run(folder)
    (folder / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(
        CheckpointError, match=r"checkpoint.pt cannot be read as a checkpoint: damaged, or of another kind$"
    ):
        open_run(folder)
    with pytest.raises(CheckpointError, match="is not a run folder"):
        open_run(tmp_path)


def test_a_run_keeps_the_normalisation_of_its_first_weights(small_recipe, small_data, tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
    network = ("network.backbone=test_resnet", "network.arguments={}", "network.stem=timm", "optimiser.steps=2")
    first = f"network.weights_file={tmp_path / 'weights.pth'}"
    run_training(small_recipe, small_data, tmp_path / "first", *network, first)
    (tmp_path / "weights.pth").unlink()
    opened = open_run(tmp_path / "first")
    assert opened.family.normalisation == Normalisation(mean=(0.5,) * 3, deviation=(0.5,) * 3)

    run_training(small_recipe, small_data, tmp_path / "next", *network, f"network.start={tmp_path / 'first'}")
    assert open_run(tmp_path / "next").family.normalisation == opened.family.normalisation
    given = "network.normalisation={mean=[0.1,0.2,0.3],deviation=[1.0,1.0,1.0]}"
    settings = (*network, f"network.start={tmp_path / 'first'}", given)
    run_training(small_recipe, small_data, tmp_path / "other", *settings)
    assert open_run(tmp_path / "other").family.normalisation.mean == (0.1, 0.2, 0.3)

    # Runs of earlier versions had ImageNet's, whatever weights they started from.
    content = torch.load(tmp_path / "first/checkpoint.pt", weights_only=True)
    del content["normalisation"]
    torch.save(content, tmp_path / "first/checkpoint.pt")
    assert open_run(tmp_path / "first").family.normalisation.mean == (0.485, 0.456, 0.406)


def test_a_mixed_gallery_of_one_width_is_a_column_of_the_matrix(finished, tmp_path):
    folder, dataset = finished
    embedded = embed_split(open_run(folder, dataset), dataset.test, QUIET)
    cross = evaluate_split(embedded)
    assignment = tmp_path / "assignment.json"
    for column, width in enumerate(("0.5", "1.0")):
        assignment.write_text(json.dumps(dict.fromkeys(dataset.test.names, width)))
        scores = mixed_gallery(embedded, assignment)
        for row, query in enumerate(("0.5", "1.0")):
            assert scores[query].mean_ap == cross.mean_ap[row][column]
            assert scores[query].rank1 == cross.rank1[row][column]


def test_export_writes_a_bundle_that_embeds_as_the_network_does(finished, tmp_path):
    folder, dataset = finished
    run = open_run(folder, dataset)
    export(run, dataset, tmp_path / "small", QUIET)
    bundle = open_bundle(tmp_path / "small")
    manifest = bundle.manifest
    assert manifest.widths == ("0.5", "1.0")
    assert (manifest.space, manifest.compatible_with) == (run.space, ())
    assert manifest.submodels[0].macs < 0.4 * manifest.submodels[1].macs
    assert manifest.quality.mean_ap == evaluate_split(embed_split(run, dataset.test, QUIET)).mean_ap
    images = np.stack([preprocess(path.read_bytes(), manifest.preprocessing) for path in dataset.test.paths])
    embedded = embed_split(run, dataset.test, QUIET)
    for width in manifest.widths:
        found = make_runner(bundle, width)(images)
        assert (found * embedded.embeddings[width]).sum(axis=1).min() > 0.9999
        one = make_runner(bundle, width)(images[:1])
        assert np.allclose(one, found[:1], atol=1e-5)


def test_export_fails_where_a_slice_is_not_the_network(finished, tmp_path, monkeypatch):
    folder, dataset = finished
    run = open_run(folder, dataset)
    sliced = run.family.sliced

    def altered(index):
        plain = sliced(index)
        with torch.no_grad():
            next(plain.parameters()).mul_(1.5)
        return plain

    monkeypatch.setattr(run.family, "sliced", altered)
    with pytest.raises(ExportError, match=r"width 0.5: sliced and switchable network differ"):
        export(run, dataset, tmp_path / "altered", QUIET)
    assert list(tmp_path.iterdir()) == []


def command(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    script = Path(sys.executable).with_name("sfsc-train")
    return subprocess.run(
        [script, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=120
    )


def test_the_command_from_recipe_to_bundle(small_recipe, small_data, tmp_path):
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    trained = command("train", small_recipe, "--data", small_data, "--out", run, "--threads", 1, "--workers", 0)
    assert trained.returncode == 0, trained.stderr
    assert "loss" in trained.stdout
    assert "images/s" in trained.stdout
    evaluated = command("evaluate", run, "--data", small_data)
    assert evaluated.returncode == 0, evaluated.stderr
    stored = json.loads((run / "evaluation-test.json").read_text())
    assert f"{stored['mean_ap'][0][1]:.1f}" in evaluated.stdout
    mixed = stored["mixed_gallery"]
    assert f"{mixed['mean_ap'][0]:.1f} ± {mixed['mean_ap_spread'][0]:.1f}" in evaluated.stdout
    raw = command("evaluate", run, "--data", small_data, "--raw")
    assert raw.returncode == 0, raw.stderr
    unaligned = json.loads((run / "evaluation-test-raw.json").read_text())
    assert unaligned["space"] == open_run(run).unaligned().space
    assert stored["space"] == open_run(run).space
    assert json.loads((run / "evaluation-test.json").read_text()) == stored
    exported = command("export", run, "--data", small_data, "--to", bundle)
    assert exported.returncode == 0, exported.stderr
    assert open_bundle(bundle).manifest.quality.mean_ap[0][1] == pytest.approx(stored["mean_ap"][0][1])
    again = command("export", run, "--data", small_data, "--to", bundle)
    assert again.returncode == 2
    assert "already exists" in again.stderr


def spoken(capsys, monkeypatch, *words):
    """What the command says on stderr where it refuses."""
    monkeypatch.setattr(sys, "argv", ["sfsc-train", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("sfsc-train: ")
    assert said.count("\n") == 1
    return said


def test_what_no_longer_fits_is_one_sentence(small_recipe, small_data, finished, tmp_path, capsys, monkeypatch):
    def train_again(data, *words, out="r"):
        arguments = (
            "train",
            small_recipe,
            "--data",
            data,
            "--out",
            tmp_path / out,
            "--threads",
            1,
            "--workers",
            0,
        )
        return spoken(capsys, monkeypatch, *arguments, *words)

    broken = shutil.copytree(small_data, tmp_path / "broken")
    for number in (0, 1):
        (broken / f"train/id10{number}/c1_0.png").write_bytes(b"no image")
    said = train_again(broken, "--set", "data.validation_share=0")
    assert "id100/c1_0.png cannot be read" in said
    assert "2 of 64 images cannot be read (train and adopt leave out" in said
    assert "--set optimiser.speed=9: optimiser.speed: is not a known key" in train_again(
        small_data, "--set", "optimiser.speed=9"
    )
    shutil.copytree(finished[0], tmp_path / "r", dirs_exist_ok=True)
    more = shutil.copytree(small_data, tmp_path / "more")
    draw_identities(more / "train", identities=4, shots=2, seed=7)
    assert "classifies 6 identities, but --data has 9 to train on" in train_again(more)
    checkpoint = torch.load(tmp_path / "r/checkpoint.pt", weights_only=True)
    checkpoint["network"].popitem()
    torch.save(checkpoint, tmp_path / "r/checkpoint.pt")
    assert "has another network" in train_again(small_data)
    assert "does not fit the recipe's network" in spoken(
        capsys, monkeypatch, "evaluate", tmp_path / "r", "--data", small_data
    )


# A run may be killed at any moment, also while it writes its checkpoint: the one before stays usable, and going on
# from it gives the parameters of the run that was never cut off.
KILLED_WHILE_WRITING = """
import io, os, signal, sys, torch
from sfsc_training.cli import main
save, written = torch.save, []
def half(content, file):
    written.append(file)
    if len(written) < 2:
        return save(content, file)
    whole = io.BytesIO()
    save(content, whole)
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
main()
"""


def test_a_run_killed_while_it_writes_its_checkpoint_goes_on(small_recipe, small_data, finished, tmp_path):
    words = (
        "train",
        small_recipe,
        "--data",
        small_data,
        "--out",
        tmp_path / "run",
        "--threads",
        1,
        "--workers",
        0,
    )
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, *map(str, words), "--checkpoint-every", "5"],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "run/.checkpoint.pt.tmp").stat().st_size > 0
    assert read_checkpoint(tmp_path / "run").step == 5
    run_training(small_recipe, small_data, tmp_path / "run")
    whole, cut = parameters(finished[0]), parameters(tmp_path / "run")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_mistakes_are_one_sentence_before_any_training(small_recipe, small_data, tmp_path):
    hollow = shutil.copytree(small_data, tmp_path / "hollow")
    (hollow / "train" / "empty").mkdir()
    mistakes = [
        (
            ["train", small_recipe, "--data", tmp_path / "nowhere", "--out", tmp_path / "r"],
            "nowhere does not exist",
        ),
        (
            ["train", small_recipe, "--data", hollow, "--out", tmp_path / "r"],
            "identity folders without an image: 1, 'train/empty'",
        ),
        (["train", "nothing", "--data", small_data, "--out", tmp_path / "r"], "no recipe 'nothing'"),
        (
            ["train", small_recipe, "--data", small_data, "--out", tmp_path / "r", "--set", "widths=[0.05,1.0]"],
            "width 0.05 leaves none of its",
        ),
        (["evaluate", tmp_path, "--data", small_data], "is not a run folder"),
    ]
    for arguments, *words in mistakes:
        result = command(*arguments)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert result.stderr.count("\n") == 1
        assert all(word in result.stderr for word in words), result.stderr
    assert not (tmp_path / "r" / "checkpoint.pt").exists()
