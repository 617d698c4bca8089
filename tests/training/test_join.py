"""Runs that were trained apart, as one bundle; the shared split; bundles aligned at export."""

import dataclasses
import re
import shutil
import sys

import numpy as np
import pytest
from rich.console import Console

from sfsc_bundle.folder import open_bundle
from sfsc_bundle.manifest import Joined
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import make_runner
from sfsc_training.align_run import align_joined, align_run
from sfsc_training.alignment import Fitter, Method, Sample, align
from sfsc_training.cli import main
from sfsc_training.config import load_recipe
from sfsc_training.data.reader import read_folder
from sfsc_training.data.shared import shared_dataset
from sfsc_training.datasets import open_with_data
from sfsc_training.errors import DataError
from sfsc_training.evaluation import embed_joined, embed_split, evaluate_split
from sfsc_training.joined_runs import JoinedRuns, open_joined
from sfsc_training.loop import RunOptions, train
from sfsc_training.run import open_run
from tests.training.conftest import draw_identities

QUIET = Console(quiet=True)
BLEND = Method("procrustes", 0.7)
ONLY = {"0.5": "widths=[0.5]", "0.75": "widths=[0.75]", "1.0": "widths=[1.0]"}


@pytest.fixture(scope="module")
def runs(small_recipe, small_data, tmp_path_factory):
    """Folders of two runs of one width each, and of one of two widths."""
    root = tmp_path_factory.mktemp("join")

    def trained(name, *settings):
        recipe = load_recipe(str(small_recipe), (f"name={name}", *settings))
        dataset = read_folder(small_data, recipe.data, recipe.seed)
        train(recipe, dataset, root / name, QUIET, RunOptions(threads=1, workers=0))
        return root / name

    return {
        "narrow": trained("narrow", ONLY["0.5"], "optimiser.steps=40"),
        "wide": trained("wide", ONLY["1.0"], "optimiser.steps=40", "network.arguments.channels=[8, 8, 16, 24]"),
        "both": trained("both"),
        "seeded": trained("seeded", ONLY["0.75"], "seed=1"),
        "short": trained("short", ONLY["0.5"], "network.dimension=8", "optimiser.steps=2"),
        "large": trained("large", ONLY["0.5"], "data.height=40", "optimiser.steps=2"),
        "asked": trained("asked", ONLY["0.5"], 'data.query="*_1.png"', "optimiser.steps=2"),
    }


def opener(small_data):
    return lambda folder: open_with_data(folder, small_data, QUIET, aligned=False)


@pytest.fixture
def say(capsys, monkeypatch):
    """What the command says: on stdout, or on stderr where it refuses."""

    def run_command(*words):
        monkeypatch.setattr(sys, "argv", ["sfsc-train", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        assert stop.value.code in (None, 0, 2)
        return " ".join((said.err if stop.value.code else said.out).split())

    return run_command


def test_runs_that_share_nothing_become_one_bundle(runs, small_data, tmp_path, say):
    before = {name: sorted(path.name for path in runs[name].iterdir()) for name in ("narrow", "wide")}
    words = ("align", runs["wide"], runs["narrow"], "--data", small_data, "--to", tmp_path / "together")
    said = say(*words, "--method", "blend")
    bundle = open_bundle(tmp_path / "together")
    manifest = bundle.manifest
    assert f"alignment of narrow, wide: procrustes, 0.7 of a ridge map, λ 0.01, space {manifest.space}" in said
    assert manifest.widths == ("0.5", "1.0")
    assert (manifest.alignment.base, manifest.alignment.images, manifest.alignment.identities) == (
        "procrustes",
        36,
        6,
    )
    assert isinstance(manifest.provenance, Joined)
    assert [run.widths for run in manifest.provenance.runs] == [("0.5",), ("1.0",)]
    assert [run.training.recipe["name"] for run in manifest.provenance.runs] == ["narrow", "wide"]

    joined, dataset = open_joined([runs["narrow"], runs["wide"]], opener(small_data))
    raw = embed_joined(joined, dataset.test, QUIET)
    apart, together = evaluate_split(raw).mean_ap, manifest.quality.mean_ap
    assert together[0][1] > apart[0][1] + 10
    assert together[1][0] > apart[1][0] + 10

    sample = embed_joined(joined, dataset.train, QUIET)
    maps = Fitter(Sample(sample.embeddings, sample.split.classes)).fit(BLEND)
    images = np.stack([preprocess(path.read_bytes(), manifest.preprocessing) for path in dataset.test.paths])
    for width, rows in align(raw.embeddings, maps).items():
        assert (make_runner(bundle, width)(images) * rows).sum(axis=1).min() > 0.9999
    assert before == {name: sorted(path.name for path in runs[name].iterdir()) for name in before}
    assert "already exists" in say(*words)
    assert "bundle written" in say(*words, "--method", "procrustes", "--replace")
    assert open_bundle(tmp_path / "together").manifest.space != manifest.space


@pytest.mark.parametrize(
    ("names", "words", "message"),
    [
        (["both", "narrow"], [], "must have no width in common; found 0.5 in"),
        (["narrow", "narrow"], [], "must have no width in common; found 0.5 in"),
        (["wide", "short"], [], "embeddings of the same dimension; found 16 in .* and 8 in"),
        (["wide", "large"], [], "images of the same size; found 32 × 32 in .* and 40 × 32 in"),
        (["wide", "asked"], [], "must have the same test split"),
        (["wide", "narrow"], None, "a bundle, which needs --to; .* found 2 without --to"),
        (["both"], [], "found 1 with --to"),
    ],
)
def test_runs_that_cannot_be_joined_are_refused(runs, small_data, tmp_path, say, names, words, message):
    target = [] if words is None else ["--to", tmp_path / "bundle"]
    said = say("align", *(runs[name] for name in names), "--data", small_data, *target)
    assert said.startswith("sfsc-train: ")
    assert re.search(message, said), said
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_refused_before_anything_is_read(runs, tmp_path, say):
    for command in (["align", runs["wide"], runs["narrow"]], ["export", runs["both"]]):
        assert "already exists" in say(*command, "--data", tmp_path / "nowhere", "--to", tmp_path)


def test_identities_that_any_run_trained_on_choose_nothing(runs, small_data):
    joined, shared = open_joined([runs["wide"], runs["seeded"]], opener(small_data))
    assert [run.recipe.name for run in joined.runs] == ["seeded", "wide"]
    splits = [read_folder(small_data, run.recipe.data, run.recipe.seed) for run in joined.runs]
    for name in ("train", "validation"):
        one, other = (getattr(split, name) for split in splits)
        part = getattr(shared, name)
        assert set(part.identities) == set(one.identities) & set(other.identities) != set(one.identities)
        assert [part.identities[number] for number in part.classes] == [path.parent.name for path in part.paths]
    aligned = align_joined(joined, shared, QUIET, method=Method("procrustes"))
    assert aligned.widest.alignment.description.images == len(shared.train.paths)


def test_joined_runs_lead_to_an_older_space_where_it_is_given(runs, small_data):
    joined, shared = open_joined([runs["narrow"], runs["wide"]], opener(small_data))
    older = open_run(runs["both"])
    untouched = align_joined(joined, shared, QUIET, method=None)
    aligned = align_joined(joined, shared, QUIET, method=Method("procrustes"), older=older)
    assert (untouched.compatible_with, aligned.compatible_with) == ((), (older.space,))
    assert len({joined.space, aligned.space, joined.widest.space, aligned.widest.space}) == 4
    assert set(aligned.maps) == {"0.5", "1.0"}


def test_runs_without_a_common_training_identity_are_refused(small_recipe, small_data):
    found = read_folder(small_data, load_recipe(str(small_recipe)).data, 0)
    other = dataclasses.replace(found, train=found.validation)
    with pytest.raises(DataError, match="training identities in common; found none"):
        shared_dataset([found, other])


def test_separate_networks_of_one_run_are_brought_together(small_recipe, small_data, tmp_path):
    recipe = load_recipe(
        str(small_recipe),
        (
            "method=independent",
            "network.separate=true",
            "loss.classifier=separate",
            "loss.compatible=base",
            "optimiser.steps=40",
        ),
    )
    dataset = read_folder(small_data, recipe.data, recipe.seed)
    train(recipe, dataset, tmp_path / "run", QUIET, RunOptions(threads=1, workers=0))
    run = open_run(tmp_path / "run", dataset)
    assert agreement(run, dataset) < 0.5 < 0.8 < agreement(align_run(run, dataset, QUIET, method=BLEND), dataset)


def agreement(run, dataset):
    """The mean cosine of a training image at one width to itself at the other."""
    narrow, wide = embed_split(run, dataset.train, QUIET).embeddings.values()
    return (narrow * wide).sum(axis=1).mean()


@pytest.fixture
def elsewhere(tmp_path):
    return draw_identities(tmp_path / "elsewhere", identities=5, shots=4, seed=9)


def test_a_bundle_can_be_aligned_to_where_it_will_work(runs, small_data, elsewhere, tmp_path, say):
    run = shutil.copytree(runs["both"], tmp_path / "run")
    say("align", run, "--data", small_data, "--method", "procrustes")
    stored = open_run(run)
    words = ("export", run, "--data", small_data, "--to", tmp_path / "there", "--unlabelled", elsewhere)
    said = say(*words)
    manifest = open_bundle(tmp_path / "there").manifest
    assert f"space {manifest.space}" in said
    assert manifest.alignment.unlabelled == 20
    assert manifest.space != stored.space
    assert open_run(run).space == stored.space
    dataset = read_folder(small_data, stored.recipe.data, stored.recipe.seed)
    expected = align_joined(JoinedRuns((stored,)), dataset, QUIET, unlabelled=elsewhere)
    assert manifest.space == expected.space


def test_a_bundle_is_not_aligned_to_images_that_it_is_tested_on(runs, small_data, elsewhere, tmp_path, say):
    shutil.copy(next((small_data / "test").glob("*/*.png")), elsewhere / "renamed.png")
    words = ("export", runs["both"], "--data", small_data, "--to", tmp_path / "there")
    assert "must not be images of the validation or test split" in say(*words, "--unlabelled", elsewhere)
    assert not (tmp_path / "there").exists()


def test_an_export_does_not_leave_an_older_space_in_silence(runs, small_data, elsewhere, tmp_path, say):
    run = shutil.copytree(runs["both"], tmp_path / "run")
    say("align", run, "--data", small_data, "--method", "procrustes", "--compatible-with", runs["both"])
    words = ("export", run, "--data", small_data, "--to", tmp_path / "there")
    said = say(*words, "--unlabelled", elsewhere)
    assert f"is compatible with {open_run(runs['both']).space}; give that run to sfsc-train align" in said
    assert not (tmp_path / "there").exists()
