"""Shards that are damaged, and members that cannot be used: one sentence each, counted."""

import gzip
import shutil
import tarfile

import pytest

from sfsc_training.config import load_recipe
from sfsc_training.data.check_images import check_images
from sfsc_training.data.images import OnDemand
from sfsc_training.data.loader import deliver
from sfsc_training.data.read import read_dataset
from sfsc_training.distributed import World
from sfsc_training.errors import DataError
from sfsc_training.loop import _plan_batches
from tests.training.shard_files import LENIENT, STRICT, UNCACHED, pack, samples


def link(name, kind, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def damaged_header(content):
    place = content.index(b"0018.png")  # the name in a header, which has a checksum
    return content[:place] + b"XXXX" + content[place + 4 :]


# What is wrong → the sentence that names it, and how many images are left where it may be left out.
TROUBLES = {
    "cut within an image": (
        lambda whole: whole[: whole.index(b"0018.png") + 1000],
        "ends at byte .*, within 0018.png",
        6,
    ),
    "cut between members": (
        lambda whole: whole[: whole.index(b"0018.png")],
        "without the empty blocks that close",
        6,
    ),
    "a damaged header": (damaged_header, r"the header at byte \d+ is damaged", 6),
    "compressed": (
        gzip.compress,
        "damaged, truncated or compressed: 1, 'b.tar'",
        0,
    ),
    "empty": (lambda _: b"", r"damaged, truncated or compressed: 1, 'b.tar' \(empty file\)", 0),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_damaged_shards_are_counted(images, tmp_path, trouble):
    damage, sentence, left = TROUBLES[trouble]
    pack(tmp_path / "a.tar", samples(images))
    path = pack(tmp_path / "b.tar", samples(images, first=12))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{tmp_path} holds what cannot be used: shards that are .*{sentence}"):
        read_dataset(tmp_path, STRICT, 0)
    dataset = read_dataset(tmp_path, LENIENT, 0)
    assert sum(len(split.paths) for split in dataset.splits.values()) == 12 + left


MEMBERS = {
    "absolute": (
        [("/etc/0.png", b"x")],
        "members of shards whose name leads out of a folder: 1, 'a.tar: /etc/0.png'",
    ),
    "outside": ([("../0.png", b"x")], "members of shards whose name leads out of a folder: 1, 'a.tar: ../0.png'"),
    "twice": ([("0001.png", b"x")], "members that are in a shard more than once: 1, 'a.tar: 0001.png'"),
    "no identity": ([("x.png", b"x")], "images without an identity in KEY.json or KEY.cls: 1, 'a.tar: x.png'"),
    "no JSON": ([("x.png", b"x"), ("x.json", b"{")], "labels that cannot be used: 1, 'a.tar: x.json'"),
    "no text": (
        [("x.png", b"x"), ("x.cls", b"\xff")],
        r"labels that cannot be used: 1, 'a.tar: x.cls' \(it is not UTF",
    ),
    "too long": (
        [("x.cls", b"x" * 2**21)],
        r"labels that cannot be used: 1, 'a.tar: x.cls' \(has 2097152 bytes\)",
    ),
    "its name": (
        [("x.png", b"x"), ("x.json", b'{"identity": "a", "name": "../a"}')],
        "labels that cannot be used: 1, 'a.tar: x.json'.*must have a path below the data folder",
    ),
    "same name": (
        [("x.png", b"x"), ("x.json", b'{"identity": "a", "name": "0001.png"}')],
        "images whose name is in the shards more than once: 1, '.*a.tar: 0001.png'",
    ),
    "one image": ([("x.png", b"x"), ("x.cls", b"z")], "identities with fewer than 2 images: 1, 'z'"),
}


@pytest.mark.parametrize("what", MEMBERS)
def test_members_that_cannot_be_used_are_counted(images, tmp_path, what):
    added, sentence = MEMBERS[what]
    pack(tmp_path / "a.tar", [*samples(images), *added])
    with pytest.raises(DataError, match=f"holds what cannot be used: .*{sentence}"):
        read_dataset(tmp_path, STRICT, 0)
    dataset = read_dataset(tmp_path, LENIENT, 0)
    assert sum(len(split.paths) for split in dataset.splits.values()) == 12


def test_links_folders_and_other_members_are_ignored_and_counted(images, tmp_path):
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    links = [link("x.png", tarfile.SYMTYPE, "/etc/passwd"), link("y.png", tarfile.LNKTYPE, "0001.png"), folder]
    pack(tmp_path / "a.tar", [*samples(images), *links, ("0001.txt", b"x"), (".hidden.png", b"x")])
    notes = [str(note) for note in read_dataset(tmp_path / "a.tar", STRICT, 0).notes]
    assert notes == [
        "links and devices in shards, ignored: 2, 'a.tar: x.png' and 'a.tar: y.png'",
        "members of shards that are neither image nor .json or .cls, ignored: 2, 'a.tar: 0001.txt' and "
        "'a.tar: .hidden.png'",
    ]


def test_shards_of_one_identity_or_of_none_are_refused(images, tmp_path):
    pack(tmp_path / "a.tar", samples(images, count=1))
    with pytest.raises(DataError, match=r"training needs at least 2 identities; found [01] beside 0"):
        read_dataset(tmp_path, STRICT, 0)
    pack(tmp_path / "a.tar", [("a/1.png", images[0])])
    with pytest.raises(
        DataError, match=r"1 shards hold no image with an identity .*KEY.jpg beside KEY.json.*without"
    ):
        read_dataset(tmp_path, STRICT, 0)


def test_a_shard_that_changes_after_it_was_indexed_is_found(small_shards, tmp_path):
    folder = shutil.copytree(small_shards, tmp_path / "shards")
    dataset = read_dataset(folder, UNCACHED, 0)
    member = dataset.train.paths[7]
    with member.shard.open("r+b") as file:
        file.seek(member.offset + 100)
        file.write(b"\0\0\0\0\0\0")
    with pytest.raises(DataError, match=rf"{member} cannot be read: the shard is damaged, or was replaced"):
        check_images(dataset, UNCACHED)
    left, images = check_images(dataset, UNCACHED.model_copy(update={"skip_unreadable": True}))
    assert len(left.train.paths) == len(images) == len(dataset.train.paths) - 1
    assert list(left.undecodable) == [member.path]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_lost_during_the_training_ends_it_with_a_sentence(
    small_recipe, small_shards, tmp_path, workers
):
    folder = shutil.copytree(small_shards, tmp_path / "shards")
    recipe = load_recipe(str(small_recipe), ["data.max_cache_gib=1e-9"])
    dataset = read_dataset(folder, recipe.data, 0)
    images = OnDemand(dataset.train.paths, recipe.data)
    batches = _plan_batches(recipe, dataset.train, images, 0, 12, World())
    arriving = deliver(batches, workers)
    next(arriving)
    (folder / "shard-000000.tar").unlink()
    with pytest.raises(DataError, match=r"shard-000000.tar: train/.* cannot be read: .*No such file"):
        list(arriving)
