"""A bundle on disk.

The contract: a reader finds no bundle, the old one or the whole new one, never a mix, whatever happens to the
writer. A writer that fails leaves nothing behind; one that is killed may leave a hidden folder.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sfsc_bundle.errors import BundleError
from sfsc_bundle.folder import MANIFEST, Bundle, open_bundle, sha256, write_bundle
from tests.bundle.manifests import document, manifest

OLD = {"w0.5.onnx": b"old narrow", "w1.0.onnx": b"old wide"}
NEW = {"w0.5.onnx": b"new narrow", "w1.0.onnx": b"new wide"}
BESIDE = {"gallery/one.jpg": b"image", "gallery/odd.onnx": b"no graph of this bundle"}


def write(folder: Path, files: dict[str, bytes], *, replace: bool = False) -> Bundle:
    return write_bundle(folder, manifest(files), files, replace=replace)


def write_old(folder: Path) -> None:
    """The old bundle with a gallery beside it."""
    write(folder, OLD)
    (folder / "gallery").mkdir()
    for name, image in BESIDE.items():
        (folder / name).write_bytes(image)


def content(folder: Path) -> dict[str, bytes]:
    """The files of a bundle that opens, without the manifest: what it names, and perhaps what lies beside."""
    bundle = open_bundle(folder)
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    assert {bundle.graph(width).name for width in bundle.manifest.widths} == set(files) - set(BESIDE)
    return files


SCHEMA_1 = json.dumps(
    {name: value for name, value in document(NEW, schema_version=1).items() if name != "alignment"}
).encode()
"""A manifest that an older version wrote: it lacks what came later, but that is not what its reader is told."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "name"


def test_what_is_written_is_what_is_opened(folder: Path) -> None:
    written = write(folder, NEW)
    assert open_bundle(folder) == written
    assert content(folder) == NEW
    assert os.listdir(folder.parent) == ["name"]
    assert written.graph("0.5").read_bytes() == b"new narrow"
    with pytest.raises(KeyError):
        written.graph("0.75")


def test_others_may_read_it(folder: Path) -> None:
    write(folder, NEW)
    assert folder.stat().st_mode & 0o777 == 0o755


def test_replacing_must_be_allowed(folder: Path) -> None:
    write(folder, OLD)
    with pytest.raises(BundleError, match="already exists"):
        write(folder, NEW)
    assert content(folder) == OLD
    write(folder, NEW, replace=True)
    assert content(folder) == NEW
    assert os.listdir(folder.parent) == ["name"]


def test_what_lies_beside_the_bundle_survives_its_replacement(folder: Path) -> None:
    write_old(folder)
    (folder / "w0.75.onnx").write_bytes(b"a width that the new bundle has not")
    write(folder, NEW, replace=True)
    assert content(folder) == NEW | BESIDE


def test_only_a_bundle_is_replaced(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("the only copy")
    with pytest.raises(BundleError, match=r"is not a bundle \(it has no manifest\.json\)"):
        write(folder, NEW, replace=True)
    assert (folder / "thesis.txt").read_text() == "the only copy"


def test_replace_is_no_demand_that_there_is_one(folder: Path) -> None:
    write(folder, NEW, replace=True)
    assert content(folder) == NEW


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"w0.5.onnx": b"new narrow"}, "must be those that the manifest names"),
        (NEW | {"extra.onnx": b""}, "must be those that the manifest names"),
        (NEW | {"w1.0.onnx": b"something else"}, r"w1\.0\.onnx: its sha256 must be the one in the manifest"),
    ],
)
def test_files_that_are_not_the_manifests(folder: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        write_bundle(folder, manifest(NEW), files)
    assert not folder.parent.exists()


def test_a_missing_file(folder: Path) -> None:
    write(folder, NEW)
    (folder / "w0.5.onnx").unlink()
    with pytest.raises(BundleError, match=r"w0\.5\.onnx, the file of width 0\.5, cannot be read \(No such file"):
        open_bundle(folder)


@pytest.mark.parametrize("change", [b"", b"new wid", b"new widf", b"new wide "])
def test_an_altered_file(folder: Path, change: bytes) -> None:
    write(folder, NEW)
    (folder / "w1.0.onnx").write_bytes(change)
    with pytest.raises(BundleError, match=r"w1\.0\.onnx: sha256 must be .* as the manifest says"):
        open_bundle(folder)


def test_a_folder_in_the_place_of_a_file(folder: Path) -> None:
    write(folder, NEW)
    (folder / "w1.0.onnx").unlink()
    (folder / "w1.0.onnx").mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(folder)


def test_no_folder(folder: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle: there is no such folder"):
        open_bundle(folder)
    folder.mkdir(parents=True)
    with pytest.raises(BundleError, match=r"is not a bundle: manifest\.json cannot be read \(No such file"):
        open_bundle(folder)
    (folder / "file").write_text("x")
    with pytest.raises(BundleError, match="is not a bundle: it is a file"):
        open_bundle(folder / "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the document: must be JSON, found"),
        (b"{", "the document: must be JSON, found"),
        (b"\xff\xfe", "the document: must be JSON, found"),
        (b"[" * 100_000, "the document: must be JSON, found"),
        (b"[]", "the document: must be an object"),
        (json.dumps(document(NEW, schema_version=3)).encode(), "schema_version: must be 2"),
        (
            SCHEMA_1,
            "schema_version: must be 2, found 1, of an older .* `sfsc-train export RUN --data DIR --replace`$",
        ),
        (json.dumps(document(NEW, surprise=1)).encode(), "surprise: is not a known key"),
    ],
    ids=["empty", "half", "not utf-8", "deep", "list", "schema", "schema 1", "field"],
)
def test_a_wrong_manifest_is_named_with_place_and_reason(folder: Path, text: bytes, message: str) -> None:
    write(folder, NEW)
    (folder / MANIFEST).write_bytes(text)
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(folder)
    assert str(folder / MANIFEST) in str(caught.value)


def test_digest(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Everything that touches the disk between the first byte and the last name, in order.
STEPS = ["fsync"] * 7 + ["rename"] * 2 + ["fsync"]
NAMED = 8  # after this many steps the old bundle has lost its name; after one more the new one has it


def fail_at(step: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the disk be full at the given step. Returns the list in which the steps are noted."""
    noted: list[str] = []
    one_at_a_time = threading.Lock()  # files are synced by several threads

    def guarded(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: object) -> object:
            with one_at_a_time:
                noted.append(name)
                if len(noted) == step + 1:
                    raise OSError(28, "No space left on device")
            return original(*arguments)

        monkeypatch.setattr(os, name, call)

    guarded("fsync")
    guarded("rename")
    return noted


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_a_failure_leaves_old_or_new_and_nothing_else(
    folder: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_old(folder)
    noted = fail_at(step, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        write(folder, NEW, replace=True)
    assert noted[: step + 1] == STEPS[: step + 1]
    assert content(folder) == (OLD if step <= NAMED else NEW) | BESIDE
    assert os.listdir(folder.parent) == ["name"]


@pytest.mark.parametrize("step", range(5))
def test_a_failure_where_there_was_nothing_leaves_nothing(
    folder: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(step, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        write(folder, NEW)
    assert os.listdir(folder.parent) == []


_KILLED = """
import os, signal, sys, threading
from pathlib import Path
from sfsc_bundle.folder import write_bundle
from tests.bundle.manifests import manifest
left = int(sys.argv[2])
one_at_a_time = threading.Lock()
def deadly(original):
    def call(*arguments):
        global left
        with one_at_a_time:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)
    return call
os.fsync, os.rename = deadly(os.fsync), deadly(os.rename)
files = {"w0.5.onnx": b"new narrow", "w1.0.onnx": b"new wide"}
write_bundle(Path(sys.argv[1]), manifest(files), files, replace=True)
"""


@pytest.mark.parametrize("step", range(len(STEPS) + 1))
def test_a_killed_writer_leaves_none_old_or_new(folder: Path, step: int) -> None:
    write_old(folder)
    command = [sys.executable, "-c", _KILLED, str(folder), str(step)]
    child = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2], check=False)
    assert child.returncode == (0 if step == len(STEPS) else -9), child.stderr.decode()
    if step == NAMED:
        assert not folder.exists()
        (retired,) = folder.parent.glob(".name.retired-*")
        assert content(retired) == OLD | BESIDE
    else:
        assert content(folder) == (OLD if step < NAMED else NEW) | BESIDE
    write(folder, NEW, replace=True)
    assert content(folder) == (NEW if step == NAMED else NEW | BESIDE)
