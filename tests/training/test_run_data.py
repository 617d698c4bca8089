"""A data folder that changes after the training: identities stay in their split, and the changes are counted."""

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from sfsc_training.cli import main
from sfsc_training.config import load_recipe
from sfsc_training.data.reader import read_folder
from sfsc_training.datasets import decode_for_training, open_with_data, read_for_training
from sfsc_training.errors import CheckpointError
from sfsc_training.loop import RunOptions, train
from sfsc_training.results import read_result
from sfsc_training.run_data import Changes, changes_since, read_run_data, write_run_data
from tests.training.conftest import draw_identities

QUIET = Console(quiet=True)
OPTIONS = RunOptions(threads=1, workers=0)
SETTINGS = ("optimiser.steps=1", "data.query=", "data.test_share=0.25", "data.skip_unreadable=true")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_identities(tmp_path / "photos", identities=8, shots=3, seed=9)


@pytest.fixture
def recipe(small_recipe):
    return load_recipe(str(small_recipe), SETTINGS)


@pytest.fixture
def run(photos, recipe, tmp_path) -> Path:
    (photos / "id900" / "damaged.png").write_bytes(b"no image")
    folder = tmp_path / "run"
    dataset = read_for_training(photos, recipe, folder, QUIET)
    dataset, images = decode_for_training(dataset, recipe, QUIET)
    train(recipe, dataset, folder, QUIET, OPTIONS, images=images)
    return folder


def parts(dataset) -> dict[str, str]:
    return {name: part for part, split in dataset.splits.items() for name in split.identities}


def opened(run: Path, photos: Path, capsys):
    _, dataset = open_with_data(run, photos, Console(width=300))
    return dataset, capsys.readouterr().out


def test_an_unchanged_folder_is_the_data_of_the_training(run, photos, capsys):
    dataset, said = opened(run, photos, capsys)
    assert said == ""
    assert sorted(parts(dataset).values()) == 2 * ["test"] + 4 * ["train"] + 2 * ["validation"]


def test_what_was_gained_lost_and_altered_is_counted_and_nobody_changes_sides(run, photos, capsys):
    before = parts(opened(run, photos, capsys)[0])
    draw_identities(photos, identities=5, shots=3, seed=1)  # they come first in the order of names
    trained = next(name for name, part in before.items() if part == "train")
    tested = next(name for name, part in before.items() if part == "test")
    (photos / tested / "c1_0.png").unlink()
    shutil.copy(photos / "id100/c1_0.png", photos / trained / "c1_0.png.jpg")
    shutil.copy(photos / "id104/c2_1.png", photos / trained / "c2_1.png")
    for number in (0, 4):
        shutil.rmtree(photos / f"id10{number}")
    dataset, said = opened(run, photos, capsys)
    assert "has 10 images more, 1 fewer and 1 with other content; identities stay in their split" in said
    after = parts(dataset)
    assert {name: after[name] for name in before} == before
    assert {after[f"id10{number}"] for number in (1, 2, 3)} == {"test"}


def test_removing_what_was_left_out_changes_nothing(run, photos, capsys):
    (photos / "id900" / "damaged.png").unlink()
    assert opened(run, photos, capsys)[1] == ""


def test_an_identity_that_moves_to_the_test_folder_is_still_not_tested(small_data, recipe, tmp_path, capsys):
    folder = shutil.copytree(small_data, tmp_path / "own")
    dataset = read_folder(folder, recipe.data, recipe.seed)
    train(recipe, dataset, tmp_path / "run", QUIET, OPTIONS)
    (trained, *_) = dataset.train.identities
    (folder / "train" / trained).rename(folder / "test" / trained)
    now, said = opened(tmp_path / "run", folder, capsys)
    assert trained in now.train.identities
    assert trained not in now.test.identities
    assert "0 images more, 0 fewer and 0 with other content; 6 have another name" in said


def test_the_test_alone_is_enough_to_evaluate(run, photos, capsys):
    before = opened(run, photos, capsys)[0]
    for name in before.train.identities:
        shutil.rmtree(photos / name)
    dataset, said = opened(run, photos, capsys)
    assert "0 images more, 12 fewer" in said
    assert dataset.test.names == before.test.names


def test_other_data_is_refused(run, tmp_path):
    other = draw_identities(tmp_path / "other", identities=8, shots=2, seed=4)
    with pytest.raises(CheckpointError, match="--data has none of the 24 images that the run was trained with"):
        open_with_data(run, other, QUIET)


def test_identities_that_were_trained_on_are_never_held_out_by_another_reader(run, photos, recipe):
    trained = read_run_data(run)
    other = recipe.data.model_copy(update={"test_share": 0.6})
    with pytest.raises(
        CheckpointError, match="identities that the run was trained on are held out now, such as id9"
    ):
        changes_since(trained, read_folder(photos, other, 0))


def test_a_run_is_only_resumed_with_its_own_data(run, photos, small_recipe):
    shutil.copy(photos / "id900/c1_0.png", photos / "id900/more.png")
    longer = load_recipe(str(small_recipe), SETTINGS)
    dataset = read_for_training(photos, longer, run, QUIET)
    dataset, images = decode_for_training(dataset, longer, QUIET)
    with pytest.raises(
        CheckpointError, match=r"another data set \(1 images more, 0 fewer and 0 with other content\)"
    ):
        train(longer, dataset, run, QUIET, OPTIONS, images=images)


def test_a_run_of_an_earlier_version_wants_exactly_its_data(run, photos):
    (run / "data.json").unlink()
    (photos / "id900" / "damaged.png").unlink()
    _, dataset = open_with_data(run, photos, QUIET)
    assert len(dataset.test.identities) == 2
    (photos / "id901" / "c1_0.png").unlink()
    with pytest.raises(CheckpointError, match="was trained on other data than --data holds now"):
        open_with_data(run, photos, QUIET)


def test_a_damaged_record_is_one_sentence(run):
    content = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(content | {"colour": 1}))
    with pytest.raises(CheckpointError, match=r"data.json cannot be used: colour: is not a known key"):
        read_run_data(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["splits"]["train"]["id900"].update({"../x.png": "0" * 64}), "path below the data folder"),
        (lambda d: d["splits"]["train"]["id900"].update({"/etc/x.png": "0" * 64}), "path below the data folder"),
        (lambda d: d["splits"]["train"]["id900"].update({"x.png": "0" * 63}), "must be a sha256: 64 hex"),
        (lambda d: d["splits"]["train"]["id900"].update({"x.png": 7}), "must be a text, found 7"),
        (lambda d: d["splits"]["train"]["id900"].update({"x" * 5000: "0" * 64}), "4096"),
        (lambda d: d["splits"].pop("validation"), "validation is missing"),
        (lambda d: d["splits"]["test"].update(id900={}), "identity must be listed once, found 'id900'"),
        (
            lambda d: d["splits"]["train"].update(new={"id900/c1_0.png": "0" * 64}),
            "image must be listed once, found 'id900/c1_0.png'",
        ),
    ],
)
def test_a_tampered_record_is_refused(photos, recipe, tmp_path, change, message):
    write_run_data(tmp_path, read_folder(photos, recipe.data.model_copy(update={"test_share": 0.0}), 0))
    content = json.loads((tmp_path / "data.json").read_text())
    every = {name: images for part in content["splits"].values() for name, images in part.items()}
    content["splits"] = {"train": every, "validation": {}, "test": {}}
    change(content)
    (tmp_path / "data.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"data.json cannot be used: .*{message}"):
        read_run_data(tmp_path)


def test_identities_moved_from_one_split_to_another_in_the_record_are_noticed(run, photos):
    content = json.loads((run / "data.json").read_text())
    identity, images = content["splits"]["train"].popitem()
    content["splits"]["test"][identity] = images
    (run / "data.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"data\.json lists other training identities than labels\.json"):
        open_with_data(run, photos, QUIET)


def test_images_are_known_by_their_content_under_another_name(run, photos, capsys):
    before = parts(opened(run, photos, capsys)[0])
    tested = next(name for name, part in before.items() if part == "test")
    (photos / tested / "c1_0.png").rename(photos / tested / "new.png")
    said = opened(run, photos, capsys)[1]
    assert "has 0 images more, 0 fewer and 0 with other content; 1 has another name; identities" in said
    (photos / tested / "c2_1.png").unlink()
    assert (
        "has 0 images more, 1 fewer and 0 with other content; 1 has another name" in opened(run, photos, capsys)[1]
    )
    trained = next(name for name, part in before.items() if part == "train")
    (photos / trained).rename(photos / "other name")
    with pytest.raises(CheckpointError, match=r"3 images that the run was trained on are held out now"):
        open_with_data(run, photos, QUIET)


def test_an_evaluation_of_changed_data_leaves_the_other_one(run, photos, capsys, monkeypatch):
    def evaluate():
        monkeypatch.setattr("sys.argv", ["sfsc-train", "evaluate", str(run), "--data", str(photos)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return " ".join(capsys.readouterr().out.split())

    evaluate()
    first = (run / "evaluation-test.json").read_bytes()
    draw_identities(photos, identities=2, shots=3, seed=1)
    said = evaluate()
    (other,) = run.glob("evaluation-test-*.json")
    assert (
        f"evaluation written to {other}; figures on the images of the training stay in evaluation-test.json"
        in said
    )
    assert (run / "evaluation-test.json").read_bytes() == first
    assert read_result(other).evaluation["gallery"] == read_result(run).evaluation["gallery"] + 6


def test_changes_are_told_apart_from_none():
    assert not Changes(0, 0, 0)
    assert str(Changes(3, 1, 2)) == "3 images more, 1 fewer and 2 with other content"


def test_the_record_names_every_image_once(photos, recipe, tmp_path):
    dataset = read_folder(photos, recipe.data, recipe.seed)
    write_run_data(tmp_path, dataset)
    stored = read_run_data(tmp_path)
    assert sum(len(stored.images(part)) for part in stored.splits) == 24
    assert stored.division(others="test").parts == parts(dataset)
