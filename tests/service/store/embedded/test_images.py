"""Image files: there before an item refers to them, gone when none does any more."""

import hashlib
import os
import shutil
import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from sfsc_service.store import errors
from sfsc_service.store.embedded.changes import AppliedChange
from sfsc_service.store.embedded.images import ImageFolder, digest_of
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.write_queue import WriteRequest
from sfsc_service.store.protocol import EncodedImage
from tests.service.store.agreement import image_of
from tests.service.store.making import DIMENSION, SPACE, make_item


def files(folder: Path) -> set[str]:
    """Digests of the stored images, each checked; nothing else may lie about."""
    paths = [path for path in (folder / "images").rglob("*") if path.is_file()]
    for path in paths:
        assert path.name == hashlib.sha256(path.read_bytes()).hexdigest()
        assert path.relative_to(folder / "images").parts == (path.name[:2], path.name[2:4], path.name)
    return {path.name for path in paths}


def digests(*images: EncodedImage | None) -> set[str]:
    return {digest_of(image.data) for image in images if image}


def test_files_come_and_go_with_the_items_that_use_them(embedded: EmbeddedStore, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    a, b = make_item("a", 1, image=True), make_item("b", 2, image=True)
    twin = replace(make_item("twin", 3), image=a.image)
    embedded.upsert([a, b, twin])
    assert files(folder) == digests(a.image, b.image)
    embedded.delete(["a"])
    assert files(folder) == digests(twin.image, b.image)
    embedded.upsert([make_item("twin", 4)])
    assert files(folder) == digests(b.image)
    embedded.upsert([b])
    assert files(folder) == digests(b.image)
    embedded.upsert([replace(b, image=a.image), b])
    assert files(folder) == digests(b.image)
    embedded.delete(["b"])
    assert files(folder) == set()


def test_images_follow_their_items(embedded: EmbeddedStore) -> None:
    first, second = make_item("a", 1, image=True), make_item("a", 2, image=True)
    embedded.upsert([first, replace(make_item("twin", 5), image=first.image)])
    assert image_of(embedded, "a") == image_of(embedded, "twin") == first.image
    (hit,) = embedded.search(first.vector[None], 1)[0]
    assert (hit.id, {hit.image_digest}) == ("a", digests(first.image))
    embedded.upsert([second])
    assert image_of(embedded, "a") == second.image
    assert image_of(embedded, "twin") == first.image
    embedded.upsert([make_item("a", 3)])
    assert embedded.image("a") is None
    embedded.delete(["twin"])
    assert embedded.image("twin") is None
    embedded.upsert([first])
    assert image_of(embedded, "a") == first.image


def test_a_refused_call_leaves_no_files(embedded: EmbeddedStore, tmp_path: Path) -> None:
    bad = replace(make_item("bad", 2), space="space-z")
    with pytest.raises(errors.SpaceMismatchError):
        embedded.upsert([make_item("a", 1, image=True), bad])
    assert files(tmp_path / "store") == set()


def test_an_image_that_cannot_be_made_durable_fails_its_call(
    embedded: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(errors.StoreFailedError, match="No space left on device"):
            embedded.upsert([make_item("a", 1, image=True)])
    assert embedded.get(["a"]) == [None]
    assert files(tmp_path / "store") == set()
    embedded.upsert([make_item("a", 1, image=True)])
    assert len(files(tmp_path / "store")) == 1


def test_file_and_name_are_durable_before_the_database_is_written(
    embedded: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.replace

    def traced_fsync(descriptor: int) -> None:
        steps.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).relative_to(tmp_path).parts[1:-1]}")
        fsync(descriptor)

    def traced_rename(source: Path, target: Path) -> None:
        steps.append("rename")
        rename(source, target)

    submit = embedded._writes.submit

    def traced_submit(request: WriteRequest) -> "Future[AppliedChange]":
        steps.append("database")
        return submit(request)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_rename)
    monkeypatch.setattr(embedded._writes, "submit", traced_submit)
    item = make_item("a", 1, image=True)
    embedded.upsert([item])
    (name,) = digests(item.image)
    assert steps[:2] == ["fsync ('images', 'temporary')", "rename"]
    steps = steps[: steps.index("database") + 1]
    # The leaf, its parent and the root are folders: their own names are cut off above.
    assert set(steps[2:-1]) == {f"fsync ('images', '{name[:2]}')", "fsync ('images',)", "fsync ()"}


def test_opening_after_a_crash_deletes_what_nothing_uses(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    kept = make_item("a", 1, image=True)
    store.upsert([kept])
    store._committer._unused_images = True  # as after a crash: it was not closed in order
    store.close()
    orphan = b"orphan"
    path = tmp_path / "images" / digest_of(orphan)[:2] / digest_of(orphan)[2:4] / digest_of(orphan)
    path.parent.mkdir(parents=True)
    path.write_bytes(orphan)
    (tmp_path / "images" / "temporary" / "half").write_bytes(b"ha")
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    assert files(tmp_path) == digests(kept.image)
    assert image_of(store, "a") == kept.image
    store.close()


def test_nothing_is_deleted_where_it_cannot_be_told_whether_the_database_is_complete(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    item = make_item("a", 1, image=True)
    store.upsert([item])
    store._committer._unused_images = True  # as after a crash: it was not closed in order
    store.close()
    orphan = b"orphan"
    path = tmp_path / "images" / digest_of(orphan)[:2] / digest_of(orphan)[2:4] / digest_of(orphan)
    path.parent.mkdir(parents=True)
    path.write_bytes(orphan)
    (tmp_path / "acknowledged").unlink()
    EmbeddedStore(tmp_path, SPACE, DIMENSION).close()
    assert (tmp_path / "images" / "quarantine" / digest_of(orphan)).read_bytes() == orphan
    shutil.rmtree(tmp_path / "images" / "quarantine")
    assert files(tmp_path) == digests(item.image)


def test_a_pinned_image_is_not_deleted(tmp_path: Path) -> None:
    folder = ImageFolder(tmp_path / "images", is_used=lambda _: False)
    contents = {digest_of(b"x"): b"x"}
    folder.pin(contents)
    folder.pin(contents)
    for _ in range(2):
        folder.delete_unused(contents)
        assert folder.delete_leftovers(lambda: False)
        assert files(tmp_path) == set(contents)
        folder.unpin(contents)
    folder.delete_unused(contents)
    assert files(tmp_path) == set()


def test_a_file_that_cannot_be_deleted_is_left_and_told(
    embedded: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_path: Path, **_: bool) -> None:
        raise PermissionError(13, "Permission denied")

    item = make_item("a", 1, image=True)
    embedded.upsert([item])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        assert embedded.delete(["a"]) == [True]
    assert embedded.image("a") is None
    assert files(tmp_path / "store") == digests(item.image)
    assert "could not be deleted" in caplog.text


def test_a_damaged_file_is_told_and_healed_by_storing_it_again(embedded: EmbeddedStore, tmp_path: Path) -> None:
    item = make_item("a", 1, image=True)
    embedded.upsert([item])
    (path,) = (path for path in (tmp_path / "store" / "images").rglob("*") if path.is_file())
    path.write_bytes(b"rot")
    with pytest.raises(errors.StoreFailedError, match="damaged"):
        embedded.image("a")
    embedded.upsert([item])
    assert image_of(embedded, "a") == item.image


def test_an_image_is_of_one_version_while_it_is_replaced(embedded: EmbeddedStore) -> None:
    versions = [make_item("a", seed, image=True) for seed in range(4)]
    wanted = {version.image for version in versions}
    embedded.upsert(versions[:1])
    done = threading.Event()

    def replace_again_and_again() -> None:
        for turn in range(60):
            embedded.upsert([versions[turn % 4]])
        done.set()

    thread = threading.Thread(target=replace_again_and_again)
    thread.start()
    seen = set()
    while not done.is_set():
        seen.add(embedded.image("a"))
    thread.join()
    assert {image and EncodedImage(image.data, image.media_type) for image in seen} <= wanted
    assert all(image and image.digest == digest_of(image.data) for image in seen), "of two versions"
