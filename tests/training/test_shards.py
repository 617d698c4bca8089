"""Tar shards: the same data set as the folder or list that they were written from, whatever is wrong with them."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import webdataset

from sfsc_training.checkpoint import read_checkpoint
from sfsc_training.config import load_recipe
from sfsc_training.data import images as module
from sfsc_training.data.check_images import check_images
from sfsc_training.data.images import OnDemand, load_images
from sfsc_training.data.read import read_dataset
from sfsc_training.data.shards.index import INDEX, read_index
from sfsc_training.errors import DataError
from sfsc_training.loop import RunOptions, train
from sfsc_training.resume import check_run_folder
from sfsc_training.shards_command import shards_command
from tests.training.conftest import draw_identities, said
from tests.training.shard_files import LENIENT, STRICT, UNCACHED, assert_same_data, pack, samples, write
from tests.training.test_loop import QUIET, weights


def test_shards_are_the_data_set_of_their_folder(small_data, small_shards):
    section = STRICT.model_copy(update={"query": "*_0.png", "camera": r"c(\d)_"})
    whole, packed = (read_dataset(place, section, 0) for place in (small_data, small_shards))
    assert_same_data(whole, packed)
    assert np.array_equal(load_images(whole.train.paths, STRICT), load_images(packed.train.paths, STRICT))
    assert str(packed.train.paths[0]) == f"{small_shards / 'shard-000000.tar'}: {whole.train.names[0]}"


def test_shards_are_the_data_set_of_their_list(small_data, tmp_path):
    folder = shutil.copytree(small_data / "train", tmp_path / "train")
    lines = [
        f"train/{path.parent.name}/{path.name},{path.parent.name},{path.name[:2]},"
        f"{'test' if path.parent.name > 'id105' else 'train'}"
        for path in sorted(folder.rglob("*.png"))
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,identity,camera,split", *lines]))
    write(tmp_path / "list.csv", tmp_path / "shards")
    whole, packed = (read_dataset(tmp_path / place, STRICT, 0) for place in ("list.csv", "shards"))
    assert whole.test.cameras is not None
    assert_same_data(whole, packed)


def test_a_training_from_shards_without_a_cache_ends_with_the_same_weights(
    small_recipe, small_data, small_shards, tmp_path
):
    for place, settings in ((small_data, ()), (small_shards, ("data.max_cache_gib=1e-9",))):
        sampled = ("sampler={kind='identities',images=4}", "optimiser.steps=4", *settings)
        recipe = load_recipe(str(small_recipe), sampled)
        dataset = read_dataset(place, recipe.data, recipe.seed)
        train(recipe, dataset, tmp_path / place.name, QUIET, RunOptions(threads=1, workers=len(settings)))
    # A run goes on with less memory for images than it began with, and from shards in the place of a folder.
    check_run_folder(tmp_path / small_data.name, recipe)
    one, other = (weights(read_checkpoint(tmp_path / place.name)) for place in (small_data, small_shards))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_what_does_not_fit_is_decoded_when_it_is_asked_for(small_data, small_shards):
    for place in (small_data, small_shards):
        dataset = read_dataset(place, UNCACHED, 0)
        kept, there = load_images(dataset.train.paths, STRICT), load_images(dataset.train.paths, UNCACHED)
        assert isinstance(there, OnDemand)
        assert (there.shape, len(there)) == (kept.shape, len(kept))
        rows = np.array([5, 0, 5])
        assert np.array_equal(there[rows], kept[rows])
        assert np.array_equal(there[3:9], kept[3:9])
        assert np.array_equal(there.take(rows)[:], kept[rows])


def test_a_training_that_is_resumed_does_not_decode_everything_again(small_data, monkeypatch):
    dataset, decoded = read_dataset(small_data, UNCACHED, 0), []
    known = {name: sha for split in dataset.splits.values() for name, sha in zip(split.names, split.contents)}  # noqa: B905
    changed = known | {dataset.test.names[1]: "0" * 64}
    decode = module._decode
    monkeypatch.setattr(module, "_decode", lambda path, how: decoded.append(path) or decode(path, how))
    counted = []
    for readable, expected in ((known, 0), (changed, 1), (None, 64)):
        decoded.clear()
        counted.clear()
        again, images = check_images(dataset, UNCACHED, lambda: counted.append(1), readable=readable)
        assert (len(decoded), len(counted), again is dataset) == (expected, 64, True)
        assert isinstance(images, OnDemand)


def test_writing_goes_on_where_it_was_stopped(small_data, tmp_path):
    data = shutil.copytree(small_data, tmp_path / "data")
    for number, path in enumerate(sorted(data.rglob("*.png"))):
        with path.open("ab") as file:  # a few larger shards; what follows a PNG's end is ignored
            file.write(os.urandom(100_000 + number))
    whole = tmp_path / "whole"
    write(data, whole, "--shard-mib", 1)
    names = [path.name for path in sorted(whole.glob("*.tar"))]
    assert len(names) > 5

    words = ["shards", str(data), "--to", str(tmp_path / "cut"), "--shard-mib", "1"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, text=True, timeout=200)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in sorted((tmp_path / "cut").glob("*.tar"))] == names[:3]
    assert len(read_index(tmp_path / "cut").shards) == 2
    with pytest.raises(
        DataError, match=rf"lists {len(names)} shards and has the images of 2: .* give the same command again"
    ):
        read_dataset(tmp_path / "cut", STRICT, 0)
    with (tmp_path / "cut" / INDEX).open("ab") as file:
        file.write(b'{"shard":"shard-0')  # a line that was cut off
    text = said(*words)
    assert f"2 of {len(names)} shards are in" in text
    for name in names:
        assert (tmp_path / "cut" / name).read_bytes() == (whole / name).read_bytes()
    assert_same_data(*(read_dataset(place, STRICT, 0) for place in (data, tmp_path / "cut")))
    assert f"{len(names)} of {len(names)} shards are in" in said(*words)

    (data / "train/id100/c1_0.png").write_bytes(b"other")
    with pytest.raises(DataError, match="holds shards of other images, or of these before they changed"):
        shards_command(data, tmp_path / "cut", 1, False)
    with pytest.raises(DataError, match="--to must be a new or empty folder, or one with shards"):
        shards_command(data, data / "train", 1, False)


# Killed between a shard's rename and its line in the index: that shard is written anew.
KILLED = """
import os, signal
from sfsc_training.cli import main
from sfsc_training.data.shards.index import Appender
add = Appender.add
def killed(self, shard):
    if shard.shard == "shard-000002.tar":
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, shard)
Appender.add = killed
main()
"""


# WebDataset leaves the file open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_webdataset_reads_what_is_written_and_is_read(small_data, small_shards, images, tmp_path):
    found = list(webdataset.WebDataset(str(small_shards / "shard-000000.tar"), shardshuffle=False))
    assert len(found) == 64
    by_name = {json.loads(one["json"])["name"]: one["png"] for one in found}
    assert all((small_data / name).read_bytes() == content for name, content in by_name.items())

    with webdataset.ShardWriter(str(tmp_path / "own-%06d.tar"), maxcount=6, verbose=0) as sink:
        for number in range(12):
            sample = {"__key__": f"photos/{number:04d}", "png": images[number], "txt": "a caption"}
            label = (
                {"cls": number // 3} if number < 6 else {"json": {"identity": number // 3, "camera": number % 2}}
            )
            sink.write(sample | label)
    with pytest.raises(DataError, match=r"camera must be given in every KEY.json or in none; found it in 6 of 12"):
        read_dataset(tmp_path, STRICT, 0)
    (tmp_path / "own-000001.tar").unlink()
    dataset = read_dataset(tmp_path, STRICT.model_copy(update={"validation_share": 0, "test_share": 0}), 0)
    assert dataset.train.identities == ("0", "1")
    assert dataset.train.names[0] == "photos/0000.png"
    notes = [str(note) for note in dataset.notes]
    assert notes[0].startswith("members of shards that are neither image nor .json or .cls, ignored: 6, such as")
    assert notes[1].startswith(
        "shards without index.jsonl, read from end to end at every start (sfsc-train shards"
    )


def test_an_index_is_written_for_shards_that_were_there(images, tmp_path):
    for number in range(2):
        pack(tmp_path / f"{number}.tar", samples(images, first=12 * number))
    before = read_dataset(tmp_path, STRICT, 0)
    assert "24 images of 4 identities are in" in said("shards", tmp_path)
    after = read_dataset(tmp_path, STRICT, 0)
    assert_same_data(before, after)
    assert after.notes == ()
    pack(tmp_path / "2.tar", samples(images, first=24))
    with pytest.raises(DataError, match=r"has 1 shards that its index.jsonl does not list, such as 2.tar"):
        read_dataset(tmp_path, STRICT, 0)
    (tmp_path / "2.tar").unlink()
    (tmp_path / "1.tar").rename(tmp_path / "1.gone")
    with pytest.raises(DataError, match=r"shards of index.jsonl that are not there: 1, '1.tar'"):
        read_dataset(tmp_path, STRICT, 0)
    assert sum(len(split.paths) for split in read_dataset(tmp_path, LENIENT, 0).splits.values()) == 12
    (tmp_path / "1.tar").write_bytes((tmp_path / "1.gone").read_bytes()[:-512])
    with pytest.raises(DataError, match=r"truncated or replaced since index.jsonl was written: 1, '1.tar' \(has"):
        read_dataset(tmp_path, STRICT, 0)
    lines = (tmp_path / INDEX).read_text()
    (tmp_path / INDEX).write_text(lines.replace('"format":1', '"format":2'))
    with pytest.raises(
        DataError, match=r"index.jsonl, line 1: cannot be used: format: .*; remove it, and sfsc-train"
    ):
        read_dataset(tmp_path, STRICT, 0)
    (tmp_path / INDEX).write_text("")
    with pytest.raises(DataError, match=r"index\.jsonl is empty"):
        read_dataset(tmp_path, STRICT, 0)


def test_a_folder_of_images_beside_a_tar_is_a_folder_of_images(small_data, tmp_path):
    data = shutil.copytree(small_data, tmp_path / "data")
    (data / "backup.tar").write_bytes(b"")
    assert len(read_dataset(data, STRICT, 0).test.paths) == 16
    draw_identities(tmp_path / "more", 2, 2, 5)
    with pytest.raises(DataError, match="--to must be the folder for the shards of"):
        shards_command(tmp_path / "more", None, 512, False)
