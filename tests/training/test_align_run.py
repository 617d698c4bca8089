"""Alignment of a trained run: what is stored, what uses it, what is refused."""

import dataclasses
import shutil

import numpy as np
import pytest
from rich.console import Console

from sfsc_training import alignment_file
from sfsc_training.align_run import align_run, align_trained, make_method
from sfsc_training.alignment import Method, align
from sfsc_training.cli import main
from sfsc_training.config import load_recipe
from sfsc_training.data.reader import read_folder
from sfsc_training.errors import AlignmentError, CheckpointError, DataError
from sfsc_training.evaluation import embed_split
from sfsc_training.loop import RunOptions, train
from sfsc_training.run import open_run
from tests.training.conftest import draw_identities

QUIET = Console(quiet=True)
PROCRUSTES = Method("procrustes")


def train_run(recipe_file, data, folder, *settings, teacher=None):
    recipe = load_recipe(str(recipe_file), settings)
    dataset = read_folder(data, recipe.data, recipe.seed)
    train(recipe, dataset, folder, QUIET, RunOptions(threads=1, workers=0), teacher)
    return dataset


@pytest.fixture(scope="module")
def trained(small_recipe, small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("align") / "run"
    return folder, train_run(small_recipe, small_data, folder)


@pytest.fixture
def run(trained, tmp_path):
    return open_run(shutil.copytree(trained[0], tmp_path / "run"), trained[1])


@pytest.fixture
def dataset(trained):
    return trained[1]


def test_an_aligned_run_is_another_space_and_embeds_through_its_maps(run, dataset):
    raw = embed_split(run, dataset.test, QUIET).embeddings
    aligned = align_run(run, dataset, QUIET, method=Method("procrustes", 0.7, 0.01))
    reopened = open_run(run.folder)
    assert reopened.alignment.description == aligned.alignment.description
    assert reopened.space == aligned.space != run.space
    assert reopened.space.startswith(run.space)
    assert reopened.unaligned().space == run.space
    found = embed_split(reopened, dataset.test, QUIET).embeddings
    for width, rows in align(raw, aligned.maps).items():
        assert np.array_equal(found[width], rows)
        assert abs(rows - raw[width]).max() > 1e-3
    unchanged = embed_split(reopened.unaligned(), dataset.test, QUIET).embeddings
    assert all(np.array_equal(unchanged[width], raw[width]) for width in raw)


def test_what_an_alignment_was_is_described(run, dataset):
    found = align_run(run, dataset, QUIET, method=Method("least-squares", 0.5, 0.03)).alignment.description
    assert (found.base, found.ridge_share, found.strength) == ("least-squares", 0.5, 0.03)
    assert (found.images, found.identities, found.unlabelled) == (36, 6, 0)
    assert found.chosen_by == "given"
    assert 0 < found.before <= 100
    assert align_run(run, dataset, QUIET, method=PROCRUSTES).alignment.description.strength == 0


def test_no_alignment_can_be_stored_too(run, dataset):
    align_run(run, dataset, QUIET, method=PROCRUSTES)
    assert align_run(run, dataset, QUIET, method=None).space == run.space
    reopened = open_run(run.folder)
    assert (reopened.alignment.description.base, reopened.maps, reopened.space) == (None, {}, run.space)


def test_the_choice_uses_no_test_image(run, dataset):
    missing = dataclasses.replace(dataset.test, paths=tuple(path / "missing" for path in dataset.test.paths))
    with pytest.raises(DataError, match="cannot be read"):
        embed_split(run, missing, QUIET)
    found = align_run(run, dataclasses.replace(dataset, test=missing), QUIET)
    assert found.alignment.description.chosen_by == "mAP of the mixed gallery of 2 validation identities"
    assert found.alignment.description.after >= found.alignment.description.before


@pytest.mark.parametrize("share", ["data.validation_share=0.0", "data.validation_share=0.125"])
def test_without_two_validation_identities_it_is_procrustes(small_recipe, small_data, tmp_path, share):
    dataset = train_run(small_recipe, small_data, tmp_path / "run", share, "optimiser.steps=2")
    found = align_run(open_run(tmp_path / "run"), dataset, QUIET).alignment.description
    assert (found.base, found.ridge_share, found.before) == ("procrustes", 0.0, None)
    assert "fewer than 2 validation identities" in found.chosen_by


def test_unlabelled_images_take_the_place_of_training_images(run, dataset, tmp_path):
    elsewhere = draw_identities(tmp_path / "elsewhere" / "deep", identities=5, shots=4, seed=9).parent
    alone = align_run(run, dataset, QUIET, method=PROCRUSTES)
    found = align_run(run, dataset, QUIET, method=PROCRUSTES, unlabelled=elsewhere)
    assert (found.alignment.description.images, found.alignment.description.unlabelled) == (0, 20)
    assert abs(found.maps["0.5"] - alone.maps["0.5"]).max() > 1e-4
    blend = align_run(run, dataset, QUIET, method=Method("procrustes", 0.3), unlabelled=elsewhere)
    assert (blend.alignment.description.images, blend.alignment.description.unlabelled) == (36, 20)


@pytest.mark.parametrize("part", ["test", "validation"])
def test_images_that_figures_are_taken_from_are_refused(run, dataset, tmp_path, part):
    elsewhere = draw_identities(tmp_path / "elsewhere", identities=5, shots=4, seed=9)
    leaked = dataset.test if part == "test" else dataset.validation
    shutil.copy(leaked.paths[3], elsewhere / "renamed.png")
    with pytest.raises(DataError, match=r"found 1 of 21, such as .*renamed.png"):
        align_run(run, dataset, QUIET, unlabelled=elsewhere)
    assert not (run.folder / "alignment.npz").exists()


def test_folders_without_enough_images_are_refused(run, dataset, tmp_path):
    with pytest.raises(DataError, match=r"folder of unlabelled images .* does not exist"):
        align_run(run, dataset, QUIET, unlabelled=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no image"):
        align_run(run, dataset, QUIET, unlabelled=tmp_path / "empty")
    draw_identities(tmp_path / "few", identities=3, shots=5, seed=9)
    with pytest.raises(AlignmentError, match=r"needs at least 16 images.*found 15"):
        align_run(run, dataset, QUIET, unlabelled=tmp_path / "few")


def test_training_with_too_few_images_ends_without_an_alignment(small_recipe, small_data, tmp_path, capsys):
    settings = ("network.dimension=64", "optimiser.steps=2")
    dataset = train_run(small_recipe, small_data, tmp_path / "run", *settings)
    run = align_trained(tmp_path / "run", dataset, "cpu", Console(width=200))
    assert run.alignment is None
    assert "small is not aligned: alignment needs at least 64 images" in capsys.readouterr().out


def test_training_keeps_an_alignment_that_is_there(run, dataset):
    kept = align_run(run, dataset, QUIET, method=PROCRUSTES)
    assert align_trained(run.folder, dataset, "cpu", QUIET).space == kept.space


def test_the_end_of_a_training_replaces_the_alignment_of_an_earlier_step(
    small_recipe, small_data, run, dataset, tmp_path
):
    stale = align_run(run, dataset, QUIET, method=PROCRUSTES)
    train_run(small_recipe, small_data, tmp_path / "further", "optimiser.steps=3")
    shutil.copy(tmp_path / "further/checkpoint.pt", run.folder)
    found = align_trained(run.folder, dataset, "cpu", QUIET)
    assert found.alignment is not None
    assert found.weights_sha256 != stale.weights_sha256
    assert open_run(run.folder).space == found.space


def test_a_pure_ridge_map_claims_no_unlabelled_images(run, dataset, tmp_path):
    elsewhere = draw_identities(tmp_path / "elsewhere" / "deep", identities=5, shots=4, seed=9).parent
    found = align_run(run, dataset, QUIET, method=Method("procrustes", 1.0), unlabelled=elsewhere)
    assert (found.alignment.description.images, found.alignment.description.unlabelled) == (36, 0)


def test_an_alignment_of_other_weights_is_stale(small_recipe, small_data, run, dataset, tmp_path):
    align_run(run, dataset, QUIET, method=PROCRUSTES)
    train_run(small_recipe, small_data, tmp_path / "other", "optimiser.steps=3")
    shutil.copy(tmp_path / "other/checkpoint.pt", run.folder)
    with pytest.raises(
        CheckpointError, match="fitted to other weights than it has now: run sfsc-train align again"
    ):
        open_run(run.folder)
    assert open_run(run.folder, aligned=False).alignment is None


def test_an_alignment_that_cannot_be_replaced_stays_as_it_was(run, dataset, monkeypatch):
    before = align_run(run, dataset, QUIET, method=PROCRUSTES)

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(alignment_file, "write_file", fail)
    with pytest.raises(KeyboardInterrupt):
        align_run(run, dataset, QUIET, method=Method("procrustes", 1.0, 0.1))
    assert open_run(run.folder).space == before.space


@pytest.mark.parametrize("description", [None, b"{}", b'{"colour": 1}'])
def test_an_alignment_that_is_none_is_told(run, dataset, description):
    align_run(run, dataset, QUIET, method=PROCRUSTES)
    if description is None:
        (run.folder / "alignment.npz").write_bytes(b"PK\x03\x04 cut off")
    else:
        np.savez(run.folder / "alignment.npz", description=np.frombuffer(description, np.uint8))
    with pytest.raises(CheckpointError, match=r"cannot be read .*run sfsc-train align again"):
        open_run(run.folder)


def test_a_new_generation_is_aligned_to_the_older_ones_aligned_space(
    small_recipe, small_data, run, dataset, tmp_path
):
    older = align_run(run, dataset, QUIET, method=Method("procrustes", 0.7, 0.01))
    folder = tmp_path / "next"
    train_run(small_recipe, small_data, folder, "method=next", "teacher={classify=1.0}", teacher=run.folder)
    new = open_run(folder)
    assert new.compatible_with == (older.unaligned().space,)
    with pytest.raises(
        CheckpointError,
        match=f"compatible with {run.space}; give that run to sfsc-train align with --compatible-with",
    ):
        align_run(new, dataset, QUIET)
    aligned = align_run(new, dataset, QUIET, method=PROCRUSTES, older=older)
    assert aligned.compatible_with == open_run(folder).compatible_with == (older.space,)
    target = embed_split(older, dataset.train, QUIET).embeddings["1.0"]
    for width, rows in embed_split(aligned, dataset.train, QUIET).embeddings.items():
        before = embed_split(new, dataset.train, QUIET).embeddings[width]
        assert (rows * target).sum() > (before * target).sum()


def test_an_older_run_of_another_dimension_is_refused(small_recipe, small_data, run, dataset, tmp_path):
    train_run(small_recipe, small_data, tmp_path / "other", "network.dimension=8", "optimiser.steps=2")
    with pytest.raises(CheckpointError, match=r"dimension 16, and the older run .* of 8"):
        align_run(run, dataset, QUIET, older=open_run(tmp_path / "other"))


@pytest.mark.parametrize(
    ("name", "unlabelled", "method"),
    [
        ("chosen", False, "chosen"),
        ("none", False, None),
        ("procrustes", False, Method("procrustes", 0.0, 0.1)),
        ("least-squares", False, Method("least-squares", 0.0, 0.1)),
        ("ridge", True, Method("procrustes", 1.0, 0.1)),
        ("blend", False, Method("procrustes", 0.6, 0.1)),
        ("blend", True, Method("least-squares", 0.6, 0.1)),
    ],
)
def test_methods_by_name(name, unlabelled, method):
    assert make_method(name, 0.6, 0.1, unlabelled=unlabelled) == method


def test_the_commands_align_and_say_so(small_recipe, small_data, tmp_path, capsys, monkeypatch):
    def say(*words):
        monkeypatch.setattr("sys.argv", ["sfsc-train", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        return " ".join(capsys.readouterr().out.split())

    folder, data = tmp_path / "run", ("--data", small_data)
    words = ("train", small_recipe, *data, "--out", folder, "--set", "optimiser.steps=2", "--workers", 0)
    assert "alignment" not in say(*words, "--no-align")
    assert open_run(folder).alignment is None
    said = say(*words)  # of the finished run only the alignment is missing
    aligned = open_run(folder)
    assert "alignment of small: " in said
    assert f"→ {aligned.alignment.description.after:.2f}" in said
    said = say("align", folder, *data, "--method", "blend", "--ridge-share", 0.6, "--strength", 0.1)
    assert f"procrustes, 0.6 of a ridge map, λ 0.1, space {open_run(folder).space}" in said
    assert "the embeddings stay as they are" in say("align", folder, *data, "--method", "none")
    older = tmp_path / "older"
    shutil.copytree(folder, older)
    say("align", folder, *data, "--method", "ridge", "--compatible-with", older)
    assert open_run(folder).compatible_with == (open_run(older).space,)
