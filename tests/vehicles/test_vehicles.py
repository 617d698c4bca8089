"""Rendered toy vehicles: the same numbers give the same image anywhere, other numbers another one."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sfsc_vehicles import (
    CAMERAS,
    Identity,
    contact_sheet,
    make_identity,
    render,
    render_jpeg,
    write_dataset,
    write_gallery,
)
from sfsc_vehicles.__main__ import main
from sfsc_vehicles.camera import plain
from sfsc_vehicles.identity import DAMAGES, KINDS, LOADS, SCHEMES, SHAPES, STRIPES, WHEELS, Sticker
from sfsc_vehicles.render import photograph, silhouette

_LARGE = st.integers(0, 2**31)
_NUMBERS = st.tuples(_LARGE, _LARGE, st.integers(0, CAMERAS - 1), st.integers(0, 10_000))


def _one_of_each_kind() -> dict[str, Identity]:
    found: dict[str, Identity] = {}
    for index in range(400):
        identity = make_identity(3, index)
        found.setdefault(identity.kind, identity)
    return found


def _draw(numbers: tuple[int, int, int, int]) -> bytes:
    seed, index, camera, shot = numbers
    return render(seed, make_identity(seed, index), camera, shot, 64).tobytes()


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(max_examples=25, deadline=None)
@given(one=_NUMBERS, part=st.integers(0, 3), step=st.integers(1, 5))
def test_images_differ_exactly_when_a_number_does(one: tuple[int, int, int, int], part: int, step: int) -> None:
    changed = (one[part] + step) % CAMERAS if part == 2 else one[part] + step
    other = (*one[:part], changed, *one[part + 1 :])
    assert _draw(one) == _draw(one)
    assert _draw(one) != _draw(other)


@settings(max_examples=25, deadline=None)
@given(one=_NUMBERS, step=st.integers(1, 5))
def test_the_seed_alone_changes_the_conditions_of_one_identity(one: tuple[int, int, int, int], step: int) -> None:
    seed, index, camera, shot = one
    identity = make_identity(seed, index)
    assert not np.array_equal(
        render(seed, identity, camera, shot, 64), render(seed + step, identity, camera, shot, 64)
    )


@settings(max_examples=100, deadline=None)
@given(seed=_LARGE, index=_LARGE, step=st.integers(1, 5))
def test_identities_differ_exactly_when_a_number_does(seed: int, index: int, step: int) -> None:
    one = make_identity(seed, index)
    assert one == make_identity(seed, index)
    for other in (make_identity(seed, index + step), make_identity(seed + step, index)):
        assert replace(one, index=0) != replace(other, index=0)


def test_another_process_draws_the_same_bytes() -> None:
    code = (
        "import hashlib; from sfsc_vehicles import make_identity, render_jpeg\n"
        "jpegs = [render_jpeg(5, make_identity(5, i), i % 6, 2) for i in range(8)]\n"
        "print(hashlib.sha256(b''.join(jpegs)).hexdigest())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "77"}
    )
    here = hashlib.sha256(b"".join(render_jpeg(5, make_identity(5, i), i % 6, 2) for i in range(8)))
    assert printed.stdout.strip() == here.hexdigest()


def test_drawing_needs_no_torch() -> None:
    code = "import sys, sfsc_vehicles.__main__; print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "False"


def test_twins_differ_in_one_sticker_only_and_it_shows_from_every_camera() -> None:
    for index in range(0, 40, 2):
        one, other = (make_identity(11, index + k, twin_share=1.0) for k in (0, 1))
        changed = {
            field.name for field in fields(Identity) if getattr(one, field.name) != getattr(other, field.name)
        }
        assert changed == {"index", "stickers"}
        assert sum(a != b for a, b in zip(one.stickers, other.stickers, strict=True)) == 1
        for camera in range(CAMERAS):
            apart = photograph(one, plain(camera), 96).astype(int) - photograph(other, plain(camera), 96)
            assert (np.abs(apart).max(axis=2) > 40).sum() >= 8, (one.kind, camera)


def test_share_of_twins() -> None:
    def twins(share: float) -> int:
        pairs = ([make_identity(2, 2 * k + s, share) for s in (0, 1)] for k in range(300))
        return sum(replace(b, index=a.index, stickers=a.stickers) == a for a, b in pairs)

    assert twins(0.0) == 0
    assert twins(1.0) == 300
    assert 45 <= twins(0.25) <= 105


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_covers_a_sensible_share_of_every_camera(kind: str) -> None:
    identity = _one_of_each_kind()[kind]
    for camera in range(CAMERAS):
        drawn = photograph(identity, plain(camera), 96)
        assert drawn.shape == (96, 96, 3)
        assert drawn.dtype == np.uint8
        mask = silhouette(identity, plain(camera), 96)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert 0.12 <= mask.mean() <= 0.75
        assert 80 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 90  # `plain` fills nine tenths
        assert min(rows[0], columns[0]) >= 1
        assert max(rows[-1], columns[-1]) <= 94


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("scheme", SCHEMES),
        ("stripe", STRIPES),
        ("load", LOADS),
        ("damage", DAMAGES),
        ("wheel", WHEELS),
        ("stickers", tuple((Sticker(shape, "yellow", 0.5, 1.0),) for shape in SHAPES)),
    ],
)
def test_each_trait_of_an_identity_shows_on_every_kind(field: str, choices: tuple[object, ...]) -> None:
    for identity in _one_of_each_kind().values():
        plainest = replace(
            identity, paint="navy", shade=(0.09, 0.14, 0.31), second="white", stripe_ink="orange", load_ink="red"
        )
        bare = replace(
            plainest, scheme="plain", stripe="none", load="none", damage="none", damage_side=1, stickers=()
        )
        shown = {photograph(replace(bare, **{field: choice}), plain(0), 96).tobytes() for choice in choices}
        assert len(shown) == len(choices), identity.kind


def test_folder_holds_the_rendered_images_whatever_the_number_of_processes(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    arguments = {"seed": 4, "identities": 3, "shots": 2, "size": 64, "split": "test", "first": 10}
    assert write_dataset(tmp_path / "one", **arguments, progress=lambda *step: told.append(step)) == 36
    assert write_dataset(tmp_path / "two", **arguments, workers=2) == 36
    files = _files(tmp_path / "one")
    assert files == _files(tmp_path / "two")
    assert set(files) == {
        f"test/v{index:06d}/c{camera}s{shot}.jpg"
        for index in (10, 11, 12)
        for camera in range(1, 7)
        for shot in (1, 2)
    }
    assert files["test/v000011/c3s2.jpg"] == render_jpeg(4, make_identity(4, 11), 2, 1, 64)
    assert all(re.search(r"c(\d)", Path(name).name) for name in files)
    assert Image.open(io.BytesIO(files["test/v000010/c1s1.jpg"])).size == (64, 64)
    assert told == [(12, 36), (24, 36), (36, 36)]


def test_gallery_lists_every_image(tmp_path: Path) -> None:
    size = write_gallery(tmp_path / "g", 1, identities=8, size=64, queries=5)
    files = _files(tmp_path / "g")
    listing = json.loads(files.pop("gallery.json"))
    items, queries = listing["items"], listing["queries"]
    assert {entry["file"] for entry in items + queries} == set(files)
    assert size == sum(map(len, files.values()))
    assert len(items) == 8 * CAMERAS
    assert len(queries) == 5
    assert all(entry["file"].startswith("queries/") for entry in queries)
    assert {entry["identity"] for entry in queries} <= {entry["identity"] for entry in items}
    assert all(entry["class"] in KINDS and entry["paint"] and 1 <= entry["camera"] <= CAMERAS for entry in items)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    small = ["--size", "64", "--workers", "1"]
    main(["--out", str(tmp_path / "set"), "--train", "3", "--test", "2", "--shots", "1", *small])
    main(["--contact-sheet", str(sheet), "--size", "64", "--train", "3"])
    main(["gallery", "--out", str(tmp_path / "gallery"), "--identities", "2", "--queries", "1", *small])
    folders = sorted(path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").glob("*/*"))
    assert folders == [f"{split}/v{index:06d}" for split, index in (("test", 4), ("test", 5))] + [
        f"train/v{index:06d}" for index in (0, 1, 2)
    ]
    with Image.open(sheet) as opened:
        assert opened.size == (64 * CAMERAS, 64 * 12)
    assert len(list((tmp_path / "gallery").glob("*.jpg"))) == 2 * CAMERAS
    assert "train: 18/18 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "{set}", "--size", "63"], "size must lie in 64..2048; found 63"),
        (["--out", "{set}", "--shots", "0"], "shots must lie in 1..1000; found 0"),
        (["--out", "{set}", "--seed", "-1"], "seed and index must be >= 0; found -1 and 0"),
        (["--out", "{set}", "--twin-share", "2", "--workers", "1"], "twin_share must lie in 0..1; found 2.0"),
        (["gallery", "--out", "{set}", "--queries", "73"], "queries must lie in 0..identities (72); found 73"),
        (["gallery"], "--out is required"),
        ([], "--out or --contact-sheet is required"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([argument.replace("{set}", str(tmp_path / "set")) for argument in arguments])
    assert exit_.value.code == 2
    assert sentence in capsys.readouterr().err


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="found files in"):
        write_dataset(tmp_path, 0, 1, 1)
    with pytest.raises(FileExistsError, match="found files in"):
        write_gallery(tmp_path, 0)
    assert list(_files(tmp_path)) == ["train/mine.txt"]


@pytest.mark.parametrize("split", ["", "..", "a/b"])
def test_a_split_is_a_plain_name(split: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split must be a plain folder name"):
        write_dataset(tmp_path, 0, 1, 1, split=split)


def test_numbers_out_of_range_are_refused() -> None:
    identity = make_identity(0, 0)
    with pytest.raises(ValueError, match="camera < 6"):
        render(0, identity, CAMERAS, 0)
    with pytest.raises(ValueError, match=">= 0"):
        render(0, identity, 0, -1)
    with pytest.raises(ValueError, match=r"size must lie in 64\.\.2048 pixels; found 2049"):
        render(0, identity, 0, 0, 2049)
    with pytest.raises(ValueError, match="identities must lie in"):
        contact_sheet(0, 0)
