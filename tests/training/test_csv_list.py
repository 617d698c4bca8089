"""The reader of lists: columns, splits and cameras, and what is wrong with a list."""

from pathlib import Path

import pytest

from sfsc_training.config import DataSection
from sfsc_training.data.read import read_dataset
from sfsc_training.errors import DataError
from tests.training.conftest import draw_identities

STRICT = DataSection(height=32, width=32, validation_share=0.25, test_share=0.25)
LENIENT = STRICT.model_copy(update={"skip_unreadable": True})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_identities(tmp_path, identities=8, shots=3, seed=9)


def rows(folder: Path, more=lambda _: "") -> str:
    paths = sorted(path.relative_to(folder) for path in folder.glob("*/*.png"))
    return "".join(f"{path},{path.parent}{more(path)}\n" for path in paths)


def write(folder: Path, text: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_list_gives_what_the_folder_gives(folder):
    file = write(folder, "path,identity\n" + rows(folder))
    whole = read_dataset(folder, STRICT, 0)
    assert read_dataset(file, STRICT, 0).sha256 == whole.sha256
    listed = read_dataset(folder, STRICT.model_copy(update={"reader": "csv"}), 0)
    assert listed.sha256 == whole.sha256
    assert listed.train.names == whole.train.names


def test_a_list_may_have_cameras_and_a_split(folder):
    def more(path):
        part = "test" if path.parent.name > "id905" else "train"
        return f",{path.name[:2]},{part}"

    file = write(folder, "\ufeffidentity,path,camera,split\n" + "".join(
        ",".join([identity, path, *others]) + "\n"
        for path, identity, *others in (line.split(",") for line in rows(folder, more).splitlines())
    ))  # fmt: skip
    dataset = read_dataset(file, STRICT, 0)
    assert dataset.test.identities == ("id906", "id907")
    assert len(dataset.validation.identities) == 2  # a quarter of the training identities
    assert sorted(set(dataset.test.cameras.tolist())) == [0, 1]


LISTS = {
    "no header": ("a.png,b\n", "first line must name the columns path,identity"),
    "another column": ("path,identity,colour\n", "may name camera,split; found path,identity,colour"),
    "empty": ("", "found an empty line"),
    "no lines": ("path,identity\n", "lists no image"),
    "a cell too few": ("path,identity\nid900/c1_0.png\n", "line 2: must have 2 cells"),
    "a cell too many": ("path,identity\nid900/c1_0.png,a,b\n", "line 2: must have 2 cells"),
    "an empty cell": ("path,identity\nid900/c1_0.png,\n", "line 2: path and identity must not be empty"),
    "an absolute path": ("path,identity\n/etc/passwd,a\n", "must be relative .* found /etc/passwd"),
    "a path upwards": ("path,identity\n../x.png,a\n", "stay below it; found ../x.png"),
    "twice": ("path,identity\nid900/c1_0.png,a\nid900/c1_0.png,b\n", "lists id900/c1_0.png more than once"),
    "a split of another name": ("path,identity,split\nid900/c1_0.png,a,dev\n", "split must be one of train, val"),
    "some splits": (
        "path,identity,split\nid900/c1_0.png,a,test\nid900/c2_1.png,a,\n",
        "split must be given in every line or in none; found it in 1 of 2",
    ),
    "no such images": ("path,identity\nx.png,a\ny.png,a\n", "none of its 2 images exists below .*first is x.png"),
}


@pytest.mark.parametrize("what", LISTS)
@pytest.mark.parametrize("section", [STRICT, LENIENT], ids=["strict", "lenient"])
def test_what_is_wrong_with_a_list_is_named(folder, what, section):
    text, message = LISTS[what]
    with pytest.raises(DataError, match=message):
        read_dataset(write(folder, text), section, 0)


def test_listed_images_that_are_missing_are_refused_or_left_out(folder):
    file = write(folder, "path,identity\ngone/1.png,gone\n" + rows(folder))
    with pytest.raises(DataError, match=r"listed images that do not exist: 1, 'gone/1.png'"):
        read_dataset(file, STRICT, 0)
    assert len(read_dataset(file, LENIENT, 0).left_out) == 1


def test_a_folder_has_one_list(folder):
    section = STRICT.model_copy(update={"reader": "csv"})
    with pytest.raises(DataError, match=r"must hold one CSV file .*; found none"):
        read_dataset(folder, section, 0)
    for name in ("a.csv", "b.csv"):
        write(folder, "path,identity\n" + rows(folder), name)
    with pytest.raises(DataError, match=r"found a.csv, b.csv"):
        read_dataset(folder, section, 0)


def test_what_is_no_list_at_all_is_one_sentence(folder):
    with pytest.raises(DataError, match=r"list .*c1_0.png cannot be read"):
        read_dataset(folder / "id900/c1_0.png", STRICT, 0)
