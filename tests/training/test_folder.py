"""What a folder of somebody else's images can hold: read, counted and named, left out or refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from sfsc_training.config import DataSection
from sfsc_training.data.check_images import check_images
from sfsc_training.data.findings import SKIPPING
from sfsc_training.data.images import load_images
from sfsc_training.data.reader import read_folder
from sfsc_training.errors import DataError
from tests.training.conftest import draw_identities

STRICT = DataSection(height=32, width=32, validation_share=0.25, test_share=0.25)
LENIENT = STRICT.model_copy(update={"skip_unreadable": True})
IMAGES = {"id900", "id901", "id902", "id903", "id904", "id905", "id906", "id907"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_identities(tmp_path / "photos", identities=8, shots=3, seed=9)


def identities(dataset) -> set[str]:
    return {name for split in dataset.splits.values() for name in split.identities}


def names(dataset) -> set[str]:
    return {name for split in dataset.splits.values() for name in split.names}


def found(findings) -> dict[str, tuple[str, ...]]:
    return {finding.what: finding.names for finding in findings}


def test_hidden_files_and_files_of_other_kinds_are_ignored_and_counted(photos):
    clean = read_folder(photos, STRICT, 0)
    for name in ("._c1_0.png", ".DS_Store"):
        (photos / "id900" / name).write_bytes(b"\0\5\x16\7")
    for name in ("__MACOSX/id900", ".thumbnails/id900"):
        (photos / name).mkdir(parents=True)
        shutil.copy(photos / "id900/c1_0.png", photos / name / "x.png")
    for name in ("IMG_1.DNG", "IMG_2.dng", "notes.txt"):
        (photos / "id901" / name).write_bytes(b"x")
    dataset = read_folder(photos, STRICT, 0)
    assert dataset.sha256 == clean.sha256
    assert not dataset.left_out
    notes = found(dataset.notes)
    assert set(notes["hidden files and folders, ignored"]) == {
        "id900/._c1_0.png",
        "id900/.DS_Store",
        "__MACOSX",
        ".thumbnails",
    }
    assert len(notes["files that are no images by their suffix (.dng 2, .txt 1), ignored"]) == 3


def make_dangling_link(folder: Path) -> str:
    (folder / "id900/dangling.jpg").symlink_to("/nonexistent")
    return "images that cannot be read: 1, 'id900/dangling.jpg' (does not exist)"


def make_pipe(folder: Path) -> str:
    os.mkfifo(folder / "id900/pipe.png")
    return "images that cannot be read: 1, 'id900/pipe.png' (is no file)"


def make_alone(folder: Path) -> str:
    (folder / "alone").mkdir()
    shutil.copy(folder / "id900/c1_0.png", folder / "alone")
    return "identities with fewer than 2 images: 1, 'alone'"


def make_loose(folder: Path) -> str:
    shutil.copy(folder / "id900/c1_0.png", folder / "loose.png")
    return "images in no identity folder: 1, 'loose.png'"


def make_empty(folder: Path) -> str:
    (folder / "empty").mkdir()
    return "identity folders without an image: 1, 'empty'"


def make_name_that_is_not_utf8(folder: Path) -> str:
    shutil.copy(folder / "id900/c1_0.png", os.fsencode(folder) + b"/id900/caf\xe9.png")
    return r"names that are not UTF-8: 1, 'id900/caf\\xe9.png'"


TROUBLES = [
    make_dangling_link,
    make_pipe,
    make_alone,
    make_loose,
    make_empty,
    make_name_that_is_not_utf8,
]


@pytest.mark.parametrize("make", TROUBLES)
def test_what_cannot_be_used_is_named_and_refused_or_left_out(photos, make):
    clean = read_folder(photos, STRICT, 0)
    named = make(photos)
    with pytest.raises(DataError) as refused:
        read_folder(photos, STRICT, 0)
    assert f"holds what cannot be used: {named} ({SKIPPING})" in str(refused.value)
    dataset = read_folder(photos, LENIENT, 0)
    assert [str(finding) for finding in dataset.left_out] == [named]
    assert dataset.sha256 == clean.sha256


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_damaged_image_is_found_in_every_split_before_training(photos, content, part):
    clean = read_folder(photos, STRICT, 0)
    victim = clean.splits[part].identities[0]
    whole = (photos / victim / "c1_0.png").read_bytes()
    (photos / victim / "zz.png").write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(DataError, match=rf"{victim}/zz.png cannot be read.*--set data.skip_unreadable=true"):
        check_images(read_folder(photos, STRICT, 0), STRICT)
    dataset, images = check_images(read_folder(photos, LENIENT, 0), LENIENT)
    assert dataset.sha256 == clean.sha256
    assert found(dataset.left_out) == {"images that cannot be read": (f"{victim}/zz.png",)}
    assert set(dataset.undecodable) == {f"{victim}/zz.png"}
    assert np.array_equal(images, load_images(dataset.train.paths, LENIENT))


def test_an_identity_that_damage_leaves_with_one_image_is_left_out(photos):
    dataset = read_folder(photos, LENIENT, 0)
    victim = dataset.train.identities[1]
    for name in ("c1_0.png", "c2_1.png"):
        (photos / victim / name).write_bytes(b"no image")
    left, images = check_images(read_folder(photos, LENIENT, 0), LENIENT)
    assert identities(left) == IMAGES - {victim}
    assert left.train.classes.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(images) == 9
    assert found(left.left_out)["identities with fewer than 2 images that can be read"] == (victim,)
    assert set(left.undecodable) == {f"{victim}/{name}" for name in ("c1_0.png", "c2_1.png", "c1_2.png")}


def test_names_may_hold_spaces_brackets_and_line_breaks(photos):
    for number, odd in enumerate(("a b", "[bold]", "two\nlines", "é")):
        (photos / f"id90{number}").rename(photos / odd)
        (photos / odd / "c1_0.png").rename(photos / odd / f"{odd}.png")
    dataset = read_folder(photos, STRICT, 0)
    assert {"a b", "[bold]", "two\nlines", "é"} <= identities(dataset)
    assert "two\nlines/two\nlines.png" in names(dataset)


def test_identities_may_lie_deeper_and_have_folders_of_their_own(photos):
    (photos / "shoes").mkdir()
    (photos / "id900").rename(photos / "shoes" / "id900")
    (photos / "id901" / "more").mkdir()
    (photos / "id901" / "c1_0.png").rename(photos / "id901" / "more" / "c1_0.png")
    (photos / "id902" / "x.jpg").mkdir()
    dataset = read_folder(photos, STRICT, 0)
    assert identities(dataset) == (IMAGES - {"id900"}) | {"shoes/id900"}
    assert "id901/more/c1_0.png" in names(dataset)
    (split,) = (split for split in dataset.splits.values() if "id901" in split.identities)
    assert split.images_of()[split.identities.index("id901")] == 3


def test_links_are_followed_once(photos, tmp_path):
    (photos / "id900").rename(tmp_path / "elsewhere")
    (photos / "id900").symlink_to(tmp_path / "elsewhere")
    (photos / "id901" / "round").symlink_to(photos)
    (tmp_path / "outside.png").write_bytes((photos / "id901/c1_0.png").read_bytes() + b"x")
    (photos / "id901" / "foreign.png").symlink_to(tmp_path / "outside.png")
    dataset = read_folder(photos, STRICT, 0)
    assert identities(dataset) == IMAGES
    assert found(dataset.notes) == {
        "links to images and folders outside the folder, followed": ("id900", "id901/foreign.png")
    }


def divided(folder: Path, **parts: int) -> Path:
    for number, (part, count) in enumerate(parts.items()):
        draw_identities(folder / part, identities=count, shots=3, seed=number)
    return folder


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_a_folder_may_bring_its_own_validation_split(tmp_path, name):
    dataset = read_folder(divided(tmp_path, train=4, test=2, **{name: 3}), STRICT, 0)
    assert [len(split.identities) for split in dataset.splits.values()] == [4, 3, 2]
    assert dataset.validation.names[0].startswith(f"{name}/id200/")


def test_where_there_is_no_test_folder_validation_is_the_test(tmp_path):
    dataset = read_folder(divided(tmp_path, train=8, val=3), STRICT, 0)
    assert [len(split.identities) for split in dataset.splits.values()] == [6, 2, 3]


def test_an_identity_in_train_and_test_is_named_and_kept_out_of_the_test(tmp_path):
    folder = divided(tmp_path, train=4, test=3)
    draw_identities(folder / "spare", identities=1, shots=3, seed=5)
    (folder / "spare" / "id500").rename(folder / "test" / "id000")
    with pytest.raises(DataError, match="identities with images in more than one split: 1, 'id000'"):
        read_folder(folder, STRICT, 0)
    dataset = read_folder(folder, LENIENT, 0)
    assert "id000" not in dataset.test.identities
    assert found(dataset.left_out)["identities with images in more than one split"] == ("id000",)
    assert found(dataset.notes) == {"folders beside train and test, ignored": ("spare",)}


def test_a_split_for_classification_is_refused(tmp_path):
    draw_identities(tmp_path / "train", identities=3, shots=4, seed=1)
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    for section in (STRICT, LENIENT):
        with pytest.raises(DataError, match="all 3 identities of the test are in train, too"):
            read_folder(tmp_path, section, 0)


def test_leakage_by_content_is_named_and_left_out_of_the_held_out_split(tmp_path):
    folder = divided(tmp_path, train=4, test=3)
    shutil.copy(folder / "train/id000/c1_0.png", folder / "test/id100/other_name.png")
    with pytest.raises(DataError, match=r"images whose copy is in another split: 1, 'test/id100/other_name.png'"):
        read_folder(folder, STRICT, 0)
    dataset = read_folder(folder, LENIENT, 0)
    assert "test/id100/other_name.png" not in dataset.test.names
    assert len(dataset.test.paths) == 9


def test_copies_within_the_test_are_noted(tmp_path):
    folder = divided(tmp_path, train=4, test=3)
    shutil.copy(folder / "test/id100/c1_0.png", folder / "test/id100/c1_0 (1).png")
    (note,) = read_folder(folder, STRICT, 0).notes
    assert str(note) == (
        "test images that are copies of other test images, counted as hits: 1, 'test/id100/c1_0.png'"
    )


def test_a_test_in_which_nothing_can_be_found_is_refused(tmp_path):
    folder = divided(tmp_path, train=4, test=3)
    section = STRICT.model_copy(update={"query": "*_0.png", "gallery": "*_0.png"})
    with pytest.raises(DataError, match="no image of the test has another one of its identity"):
        read_folder(folder, section, 0)


@pytest.mark.parametrize(
    ("count", "bounds", "sizes"),
    [
        (3, (2, 200), None),
        (4, (2, 200), [2, 0, 2]),
        (7, (2, 200), [5, 0, 2]),
        (8, (2, 200), [4, 2, 2]),
        (20, (2, 200), [13, 3, 4]),
        (20, (2, 2), [16, 2, 2]),
        (20, None, [13, 3, 4]),
    ],
)
def test_few_identities_are_held_out_and_never_too_many(tmp_path, count, bounds, sizes):
    section = DataSection(height=32, width=32, test_share=0.2, validation_share=0.2, held_out=bounds)
    folder = draw_identities(tmp_path, identities=count, shots=2, seed=1)
    if sizes is None:
        with pytest.raises(
            DataError, match="training needs at least 2 identities; found 1 beside 0 for validation"
        ):
            read_folder(folder, section, 0)
        return
    assert [len(split.identities) for split in read_folder(folder, section, 0).splits.values()] == sizes


def test_searchable_identities_have_a_match_that_counts(photos):
    def classes(**roles):
        section = STRICT.model_copy(update={"test_share": 0, "validation_share": 0, **roles})
        return read_folder(photos, section, 0).train.searchable().tolist()

    assert classes() == list(range(8))
    (photos / "id900/c2_1.png").rename(photos / "id900/c1_1.png")
    assert classes(camera=r"c(\d)") == list(range(1, 8))
    assert classes(query="c2*") == list(range(1, 8))


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (("recipe.json", "labels.json"), "is a run folder of sfsc-train"),
        (("manifest.json", "w1.0.onnx"), "is a bundle"),
        (("database.sqlite", "lock"), "is the data folder of a service"),
    ],
)
def test_a_folder_that_another_command_wrote_is_no_data(photos, files, what):
    for name in files:
        (photos / name).write_text("{}")
    with pytest.raises(DataError, match=what):
        read_folder(photos, LENIENT, 0)


def test_a_folder_without_identities_says_what_it_holds(tmp_path):
    with pytest.raises(DataError, match=r"has no images; they must lie at IDENTITY/IMAGE$"):
        read_folder(tmp_path, LENIENT, 0)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.dng").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"has no images; .* \(files that are no images by their suffix \(.dng 1\)"
    ):
        read_folder(tmp_path, LENIENT, 0)
    (tmp_path / "list.csv").write_text("path,identity\n")
    with pytest.raises(DataError, match=r"has no identity folders, but a list: give --data .*list.csv"):
        read_folder(tmp_path, LENIENT, 0)
