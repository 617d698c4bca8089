"""What a user of `sfsc-train` gets wrong or runs out of: one sentence, and no run that is none.

The exit code is 2 where something is used wrongly, and 1 where the work failed.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sfsc_bundle.extras import installing
from sfsc_training import loop
from sfsc_training.checkpoint import read_checkpoint, write_checkpoint
from sfsc_training.cli import main
from sfsc_training.config import load_recipe, packaged_recipes
from sfsc_training.config.known_keys import known_keys, nearest_key
from sfsc_training.errors import RecipeError
from sfsc_training.run_data import read_run_data
from tests.training.conftest import draw_identities


@pytest.fixture
def say(capsys, monkeypatch):
    """The exit code of a command, and what it said on both streams, in one line each."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sfsc-train", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return stop.value.code or 0, " ".join(said.out.split()), said.err

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_identities(tmp_path / "photos", identities=8, shots=3, seed=9)


def command(recipe, data, *more):
    return ("train", recipe, "--data", data, "--threads", 1, "--workers", 0, *more)


SHORT = ("--set", "optimiser.steps=2", "--set", "data.query=")


def test_a_training_says_first_what_it_will_do(say, small_recipe, photos, tmp_path):
    (photos / "alone").mkdir()
    shutil.copy(photos / "id900/c1_0.png", photos / "alone")
    (photos / "[red]").mkdir()
    for number in (1, 2):
        shutil.copy(photos / f"id90{number}/c1_0.png", photos / "[red]" / f"{number}.png")
    for number in (1, 2):
        (photos / f"id90{number}/c1_0.png").unlink()
    settings = (*SHORT, "--set", "data.skip_unreadable=true", "--set", "optimiser.steps=50")
    code, said, error = say(*command(small_recipe, photos, "--out", tmp_path / "run", *settings))
    assert (code, error) == (0, "")
    plan, _, rest = said.partition("small 50/50")
    assert rest
    assert "small: 24 images of 9 identities in" in plan
    assert "left out identities with fewer than 2 images: 1, 'alone'" in plan
    assert "resnet10t at width 0.5, 1.0; images are resized to 32 × 32 pixels in colour and become 16" in plan
    assert plan.index("timing a few steps …") < plan.index("s a step, as a few steps took that were timed")
    assert re.search(r" training 50 steps of 1\d images, \d+ passes over them, about ", plan)
    assert re.search(r" arithmetic [\d.e-]+ TFLOP \(two FLOP a multiply-accumulate", plan)
    for part in ("train", "validation", "test"):
        assert re.search(rf" {part} \d+ images of \d identities, ", plan)


def test_a_plan_names_what_shortens_the_training(say, small_recipe, photos, tmp_path):
    length = (
        "optimiser={ passes = 1, steps = 2000, lr = 1e30, batch = 16 }",
        "loss.logits=linear",
        "data.query=",
        "data.validation_share=0.5",
    )
    stop = "early_stopping={ every = 10, patience = 2 }"
    words = (word for setting in (*length, stop) for word in ("--set", setting))
    _, said, error = say(*command(small_recipe, photos, "--out", tmp_path / "run", *words))
    assert "training diverged" in error  # the plan stands before it
    assert re.search(r"300 steps of \d+ images, \d+ passes over them \(not 2000 steps: optimiser.passes = 1", said)
    assert "of it to score validation images" in said
    assert "early stop where 2 looks at the validation identities, one every 10 steps, find no better" in said


def test_the_run_folder_is_named_after_the_recipe(say, small_recipe, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said, _ = say(*command(small_recipe, photos, *SHORT))
    assert code == 0
    assert (tmp_path / "runs/small/checkpoint.pt").exists()
    assert "next: sfsc-train evaluate runs/small --data" in said


def test_more_steps_are_a_new_run_that_starts_from_the_old_one(say, small_recipe, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert say(*command(small_recipe, photos, *SHORT))[0] == 0
    again = command(small_recipe, photos, *SHORT, "--set", "optimiser.steps=3")
    code, _, error = say(*again)
    assert code == 2
    assert "holds a run of another recipe: optimiser.steps is 2 there and 3 here; give another --out" in error
    assert "--from runs/small" in error
    words = ("--data", photos, "--threads", 1, "--workers", 0)
    steps = ("--set", "optimiser.steps=3", "--set", "optimiser.lr=1e-9", "--set", "optimiser.weight_decay=0")
    assert say("train", "--from", "runs/small", *words, *steps)[0] == 0
    old, new = (read_checkpoint(tmp_path / "runs" / name) for name in ("small", "small-2"))
    assert new.step == 3
    weights = [name for name, values in old.network.items() if values.ndim > 1]
    assert all(np.allclose(old.network[name], new.network[name], atol=1e-6) for name in weights)
    assert old.data_sha256 == new.data_sha256
    assert say("train", "--from", "runs/small-2", *words, *steps)[0] == 0
    assert (tmp_path / "runs/small-3/checkpoint.pt").exists()


def test_parts_that_do_not_fit_together_are_refused_before_any_image_is_read(
    say, small_recipe, photos, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert say(*command(small_recipe, photos, *SHORT))[0] == 0
    torch.save({"conv1.weight": torch.zeros(3, 3)}, "other.pth")

    def refused(*settings, more=()):
        words = (word for setting in settings for word in ("--set", setting))
        code, said, error = say(*command(small_recipe, "nowhere", "--out", "new", *words, *more))
        assert (code, said, error.count("\n")) == (2, "", 1)
        assert not Path("new").exists()
        return error

    start = "network.start='runs/small'"
    assert "has another network: network.dimension is 16 there and 7 here" in refused(start, "network.dimension=7")
    assert "has another network: widths is [0.5, 1.0] there and" in refused(start, "widths=[0.25, 1.0]")
    other = ("network.stem=timm", "network.weights_file=other.pth")
    assert "'resnet10t' with network.weights_file other.pth cannot be built" in refused(*other)
    torch.save({"module.backbone.conv1.weight": torch.zeros(3, 3)}, "foreign.pth")
    other = ("network.stem=timm", "network.weights_file=foreign.pth")
    assert "network.weights_file foreign.pth has another layout: of the " in refused(*other)
    Path("runs/empty").mkdir()
    shutil.copy("runs/small/recipe.json", "runs/empty")
    assert "network.start: the run in runs/empty has no checkpoint" in refused("network.start='runs/empty'")
    growing = refused("augmentation.growing=[[0.5, 0.01]]")
    assert "augmentation.growing: the network does not run at width 0.5 on images of 0 x 0" in growing
    teacher = ("--teacher", "runs/small")
    assert "has no section [teacher]" in refused(more=teacher)
    assert "needs a finished run as its teacher" in refused("teacher.classify=1.0", "method=x")
    wide = ("method=x", "teacher.classify=1.0", "network.dimension=7")
    assert "embeddings of dimension 16; the recipe has network.dimension = 7" in refused(*wide, more=teacher)
    full = ("method=x", "teacher.full=true", "network.separate=true", "network.backbone=resnet18")
    assert "differs from width 1 of this recipe: network.backbone is" in refused(*full, more=teacher)
    assert "does not exist" in refused("seed=1")


def test_identities_stay_in_their_split_in_a_run_that_starts_from_another(
    say, small_recipe, photos, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert say(*command(small_recipe, photos, *SHORT))[0] == 0
    draw_identities(photos, identities=6, shots=3, seed=1)
    assert say("train", "--from", "runs/small", "--data", photos, "--threads", 1, "--workers", 0)[0] == 0
    old, new = (read_run_data(tmp_path / "runs" / name).division(None).parts for name in ("small", "small-2"))
    assert {name: new[name] for name in old} == old
    assert set(new.values()) == {"train", "validation", "test"}
    assert len(new) == 14


BAD_FOLDERS = {
    "nothing": ("does not exist", lambda _: None),
    "empty": ("has no images; they must lie at IDENTITY/IMAGE", lambda folder: folder.mkdir()),
    "one identity": (
        "training needs at least 2 identities; found ",
        lambda folder: draw_identities(folder, identities=1, shots=5, seed=0),
    ),
    "one image of each": (
        "identities with fewer than 2 images: 6",
        lambda folder: draw_identities(folder, identities=6, shots=1, seed=0),
    ),
}


@pytest.mark.parametrize("what", BAD_FOLDERS)
@pytest.mark.parametrize("recipe", ["photos", "omniglot28-sfsc-soft"])
def test_a_folder_that_cannot_be_trained_on_is_one_sentence_and_nothing_is_written(say, what, recipe, tmp_path):
    message, make = BAD_FOLDERS[what]
    make(tmp_path / "data")
    code, _, error = say(*command(recipe, tmp_path / "data", "--out", tmp_path / "run"))
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_vehicles_are_never_drawn_among_images_of_others(say, photos, tmp_path):
    before = sorted(photos.rglob("*"))
    code, _, error = say(*command("demo", photos, "--out", tmp_path / "run"))
    assert code == 2
    assert "draws its own vehicles into a new or empty folder" in error
    assert "such as photos" in error
    assert sorted(photos.rglob("*")) == before
    assert not (tmp_path / "run").exists()


def test_a_run_folder_is_new_or_has_a_run(say, small_recipe, photos, tmp_path):
    (tmp_path / "file").write_text("")
    for out, message in ((tmp_path / "file", "is a file"), (photos, "holds other files")):
        code, _, error = say(*command(small_recipe, photos, "--out", out, *SHORT))
        assert code == 2
        assert message in error
        assert error.count("\n") == 1


SETTINGS = {
    "optimiser.step=5": "optimiser.step: is not a known key; the nearest one is optimiser.steps",
    "optimizer.lr=1": "optimizer.lr: is not a known key; the nearest one is optimiser.lr",
    "steps=5": "steps: is not a known key; the nearest one is optimiser.steps",
    "optimiser.steps=many": "optimiser.steps: must be a whole number",
    "optimiser.micro_batches=7": "optimiser: batch must divide into micro_batches",
    "widths=[0.3,2.0]": "widths: a width is a number above 0 and at most 1 with at most four decimals, found",
    "widths=[0.5,0.3,1.0]": "widths: must ascend without repeats, found [0.5, 0.3, 1.0]",
    "loss.compatible=cross-entropy": "method sfsc requires loss.compatible = 'evidential'",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_is_wrong_is_named_with_the_nearest_key(say, small_recipe, photos, setting):
    code, _, error = say(*command(small_recipe, photos, "--set", "seed=1", "--set", setting))
    assert code == 2
    assert f"--set {setting}: {SETTINGS[setting]}" in error


def test_the_setting_is_blamed_for_a_rule_that_names_another_key(small_recipe):
    with pytest.raises(RecipeError, match=r"^--set optimiser.batch=18: sampler.images must divide a batch of 18"):
        load_recipe(str(small_recipe), ["sampler.kind=identities", "optimiser.batch=18", "seed=1"])


def test_every_key_is_nearest_to_itself():
    assert all(nearest_key(key) == key for key in known_keys())
    assert nearest_key("colour of the sky") is None


def test_without_a_recipe_the_one_for_photographs_is_named(say, photos):
    code, _, error = say("train", "--data", photos)
    assert code == 2
    assert "give a RECIPE, such as photos for photographs of your own" in error


def test_every_packaged_recipe_says_what_it_is_for(say):
    code, said, _ = say("recipes")
    assert code == 0
    for name in packaged_recipes():
        assert f"{name} " in said
    assert "photos Colour photographs" in said


def test_the_version_is_that_of_the_package(say):
    code, said, _ = say("--version")
    assert (code, said.split()[0]) == (0, "sfsc-train")


def test_a_missing_extra_is_one_sentence_with_the_command(say, small_recipe, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    code, _, error = say(
        *command(small_recipe, photos, *SHORT, "--set", "aggregation.kind=mgda", "--set", "method=x")
    )
    assert code == 2
    assert "pip install '.[aggregators]'" in error


def test_without_the_training_packages_the_command_is_one_sentence():
    code = "import sys; sys.modules['torch'] = None; from sfsc_training.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"sfsc-train: needs torch, which is not installed: {installing('training')}\n"


# The disk: /dev/full answers every write with "no space left", as a full disk does.
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize("name", [".checkpoint.pt.tmp", ".data.json.tmp", "history.jsonl"])
def test_a_full_disk_is_one_sentence_and_no_trained_run(say, small_recipe, photos, tmp_path, name):
    words = command(small_recipe, photos, "--out", tmp_path / "run", *SHORT)
    assert say(*words)[0] == 0
    (tmp_path / "run/checkpoint.pt").unlink()
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to("/dev/full")
    code, said, error = say(*words)
    assert code == 1
    assert "No space left on device" in error
    assert error.count("\n") == 1
    assert "is trained" not in said


@pytest.mark.parametrize("written", [True, False])
def test_ctrl_c_says_where_the_checkpoint_is_and_which_command_resumes(
    say, small_recipe, photos, tmp_path, monkeypatch, written
):
    def interrupted(folder, checkpoint):
        if written:
            write_checkpoint(folder, checkpoint)
        raise KeyboardInterrupt

    run = tmp_path / "run of today"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_checkpoint", interrupted)
        code, _, error = say(*command(small_recipe, photos, "--out", run, "--checkpoint-every", 1, *SHORT))
    assert (code, error.count("\n")) == (130, 1)
    advice, _, resuming = error.rstrip().partition(" with: ")
    place = f"; the checkpoint is {run}/checkpoint.pt; resume"
    assert advice == f"sfsc-train: interrupted{place if written else ' before the first checkpoint; start again'}"
    program, *words = shlex.split(resuming)
    assert program == "sfsc-train"
    assert say(*words)[0] == 0
    assert read_checkpoint(run).step == 2
    done = [json.loads(line)["step"] for line in (run / "history.jsonl").read_text().splitlines()]
    assert done == ([0, 1] if written else [0, 0, 1])


def test_a_checkpoint_is_written_after_a_while_however_few_the_steps(
    say, small_recipe, photos, tmp_path, monkeypatch
):
    def slow_then_interrupted(setup, step):
        if step == 1:
            raise KeyboardInterrupt
        return update(setup, step)

    update = loop.update_weights
    monkeypatch.setattr(loop, "update_weights", slow_then_interrupted)
    for seconds, written in ((60.0, False), (0.0, True)):
        monkeypatch.setattr(loop, "_CHECKPOINT_EVERY_S", seconds)
        run = tmp_path / f"{seconds}"
        code, _, error = say(*command(small_recipe, photos, "--out", run, *SHORT))
        assert code == 130
        assert ("before the first checkpoint" in error) is not written
        assert not written or read_checkpoint(run).step == 1


def test_the_recipe_for_photographs_holds_out_few_and_leaves_out_what_is_damaged():
    section = load_recipe("photos").data
    assert section.test_share <= 0.2
    assert section.held_out == (2, 200)
    assert section.skip_unreadable
    assert section.query is section.gallery is section.camera is None
