"""`sfsc reembed` on real folders: each image gets the vector that its service would give it, and nothing is lost.

- A refusal changes nothing. A kill at any moment leaves the old gallery in place, or the new one, whole.
- What was embedded before a kill is not embedded again.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfsc_bundle.folder import Bundle, open_bundle
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import Runner, make_runner
from sfsc_service.cli import reembed as command_module
from sfsc_service.cli.check import Check
from sfsc_service.cli.folder import opened
from sfsc_service.cli.reembed import Reembed
from sfsc_service.engine.offline_embedding import OfflineEmbedder
from sfsc_service.errors import StartError
from sfsc_service.lifecycle import copy_place, reembed
from sfsc_service.settings import Settings
from sfsc_service.store import errors
from sfsc_service.store.embedded import rewriting
from sfsc_service.store.embedded.segments import folder as segment_folder
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.stores import EmbeddedStores
from sfsc_service.store.open_stores import OpenStores
from sfsc_service.store.protocol import EncodedImage, Item, StoredItem
from tests.service.command import ENVIRONMENT
from tests.service.images import draw_image, half_a_jpeg
from tests.service.live import running
from tests.tiny_bundle import make_tiny_bundle

DIMENSION, WIDER = 8, 12
OF_READERS = ("lock", "-wal", "-shm")
CLOSE = 1e-5
"""Vectors of batches of other sizes differ by less."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("old") / "old", dimension=DIMENSION, space="old-space")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of another space, another dimension and other widths."""
    folder = tmp_path_factory.mktemp("new") / "new"
    return make_tiny_bundle(folder, ("0.5", "1.0"), WIDER, size=24, seed=7, space="new-space")


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """At width 0.5 the vectors of `old`, turned far away: what a linear map can undo."""
    folder = tmp_path_factory.mktemp("turned") / "turned"
    return make_tiny_bundle(folder, ("0.5", "1.0"), DIMENSION, space="turned-space", turn=1.0)


RUNNERS: dict[tuple[Path, str], Runner] = {}


def embedded(bundle: Bundle, image: bytes, width: str = "1.0") -> np.ndarray:
    """What a service with this bundle gives the image."""
    if (key := (bundle.folder, width)) not in RUNNERS:
        RUNNERS[key] = make_runner(bundle, width)
    return RUNNERS[key]([preprocess(image, bundle.manifest.preprocessing)])[0]


def image_item(number: int, bundle: Bundle, width: str = "1.0", data: bytes | None = None) -> Item:
    image = draw_image(number) if data is None else data
    vector = embedded(bundle, draw_image(number), width)
    metadata = {"number": number, "place": {"camera": number % 3}}
    stored = EncodedImage(image, "image/jpeg")
    return Item(f"image-{number:03d}", "old-space", width, vector, metadata, stored, "load")


def vector_item(number: int, bundle: Bundle, width: str = "0.25") -> Item:
    vector = embedded(bundle, draw_image(number), width)
    return Item(f"vector-{number:03d}", "old-space", width, vector, {"number": number})


def make_gallery(data: Path, bundle: Bundle, items: list[Item], bikes: list[Item] | None = None) -> Path:
    """A data folder with dead rows, and with the collection `bikes` if it has items."""
    stores = OpenStores(EmbeddedStores(data, EmbeddedStore), "old-space", bundle.manifest.dimension, ())
    try:
        stores.default.upsert([*items, image_item(900, bundle)])
        stores.default.upsert(items[:1])
        stores.default.delete(["image-900"])
        if bikes is not None:
            stores.create("bikes", 3)
            stores.by_name["bikes"].upsert(bikes)
    finally:
        stores.close()
    return data


def contents(data: Path) -> dict[str, StoredItem]:
    """All items of the collection in a data folder, by id; what the store finds damaged is missing."""
    with opened(data) as store:
        assert store.faults == []
        page = store.page(None, 1_000)
        assert all(item.image_digest is None or store.image(item.id) for item in page.items)
        return {item.id: item for item in page.items}


def files(folder: Path) -> dict[str, bytes]:
    """Every file with its content, but for the lock and what SQLite leaves when it has read."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(OF_READERS))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def check_moved(before: dict[str, StoredItem], after: dict[str, StoredItem], bundle: Bundle, images: int) -> None:
    """Each item with an image is as the service with the bundle would have it, and as before in all else."""
    moved = [item for item in after.values() if item.reason == "requested"]
    assert len(moved) == images
    for item in moved:
        was = before[item.id]
        kept = ("id", "metadata", "image_digest", "created")
        assert [getattr(item, name) for name in kept] == [getattr(was, name) for name in kept]
        assert (item.space, item.width) == (bundle.manifest.space, "1.0")
        wanted = embedded(bundle, draw_image(int(item.metadata["number"])))
        np.testing.assert_allclose(item.vector, wanted, atol=CLOSE)


def beside(data: Path) -> list[str]:
    return sorted(path.name for path in data.parent.iterdir())


def moved(data: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    Reembed(data=str(data), bundle=bundle.folder, threads=1, json=True, **options).run()
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@contextmanager
def embeddings(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> Iterator[list[int]]:
    """How many images each call embeds; a call after `stop_after` of them is interrupted."""
    calls, embed = list[int](), OfflineEmbedder.embed

    def counted(self: OfflineEmbedder, images: list[bytes]) -> Any:
        if stop_after is not None and len(calls) >= stop_after:
            raise KeyboardInterrupt
        calls.append(len(images))
        return embed(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(OfflineEmbedder, "embed", counted)
        patch.setattr(reembed, "_IMAGES_AT_ONCE", 4)
        yield calls


def test_every_collection_moves_and_the_service_serves_the_result(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [image_item(n, old, ("0.25", "1.0")[n % 2]) for n in range(9)]
    data = make_gallery(tmp_path / "data", old, items, [image_item(n, old) for n in range(20, 23)])
    EmbeddedStore(data / "collections" / "cars", "old-space", DIMENSION).close()
    before, bikes = contents(data), contents(data / "collections" / "bikes")
    (data / "alignment.json").write_text("of the old bundle")
    Reembed(data=str(data), bundle=new.folder, threads=1).run()
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        "collection default: 9 items, 9 with an image, 0 vectors without one",
        "collection bikes: 3 items, 3 with an image, 0 vectors without one",
        "collection cars: 0 items, 0 with an image, 0 vectors without one",
    ]
    assert said[3] == f"12 items are in {data}: 12 embedded, 0 mapped; 0 were left out"
    (aside,) = (path for path in tmp_path.iterdir() if path != data)
    assert re.fullmatch(r"data\.before-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ", aside.name)
    assert said[4] == f"the old gallery is in {aside}"
    Check(data=str(data)).run()
    assert "everything is whole" in capsys.readouterr().out
    check_moved(before, contents(data), new, 9)
    check_moved(bikes, contents(data / "collections" / "bikes"), new, 3)
    assert contents(aside).keys() == before.keys()
    settings = Settings(bundle=new.folder, data=data, port=0, threads=1, heal="off")
    with running(settings) as live:
        found = live.post_image("/search", draw_image(4), width="1.0", k=1).json()["hits"][0]
        assert (found["id"], round(found["score"], 4)) == ("image-004", 1.0)
        item = live.http.get("/items/image-003", params={"vectors": True}).json()
        answer = live.post_image("/embed", draw_image(3), width="1.0").json()
        np.testing.assert_allclose(item["embedding"], answer["results"][0]["embedding"], atol=CLOSE)
        assert live.put_image("/items/further", draw_image(50), width="1.0").status_code == 200
        assert live.http.delete("/items/image-000").status_code == 204
    assert moved(data, new, capsys)["embedded"] == 0, "it is in the new space already"


def test_vectors_without_an_image_stop_it_before_anything_is_changed(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [*(image_item(n, old) for n in range(3)), vector_item(7, old)]
    data = make_gallery(tmp_path / "data", old, items, [image_item(8, old), vector_item(9, old)])
    kept = files(tmp_path)
    with embeddings(monkeypatch) as calls, pytest.raises(StartError, match=r"^2 of 6 items are vectors without"):
        Reembed(data=str(data), bundle=new.folder, threads=1).run()
    assert capsys.readouterr().out.splitlines() == [
        "collection default: 4 items, 3 with an image, 1 vectors without one",
        "collection bikes: 2 items, 1 with an image, 1 vectors without one",
    ]
    assert (files(tmp_path), calls, beside(data)) == (kept, [], ["data"])
    before = contents(data)
    found = moved(data, new, capsys, drop=True, delete_old=True)
    assert (found["items"], found["embedded"], found["mapped"], found["dropped"]) == (4, 4, 0, 2)
    assert (found["old"], beside(data)) == (None, ["data"])
    check_moved(before, contents(data), new, 3)
    assert contents(data).keys() == {"image-000", "image-001", "image-002"}
    assert contents(data / "collections" / "bikes").keys() == {"image-008"}


def test_a_fitted_map_brings_vectors_into_the_new_space(
    old: Bundle, turned: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = [vector_item(n, old, ("0.25", "0.75")[n % 2]) for n in range(300, 306)]
    data = make_gallery(tmp_path / "data", old, [*(image_item(n, old) for n in range(90)), *vectors])
    before = contents(data)
    found = moved(data, turned, capsys, map="fit", width="0.5")
    assert (found["items"], found["embedded"], found["mapped"], found["dropped"]) == (96, 90, 6, 0)
    assert (found["map"]["fitted"], found["map"]["judged"]) == (60, 15)
    assert found["map"]["cosine"] > 0.95
    assert found["map"]["found"] > 0.9
    after = contents(data)
    for was in vectors:
        item = after[was.id]
        narrowest = {"0.25": "0.5", "0.75": "0.5"}[was.width]
        assert (item.space, item.width, item.reason) == ("turned-space", narrowest, "vector")
        assert (item.metadata, item.created) == (was.metadata, before[was.id].created)
        wanted = embedded(turned, draw_image(int(was.metadata["number"])), "0.5")
        assert float(item.vector @ wanted) > 0.9
        assert abs(float(np.linalg.norm(item.vector)) - 1.0) < CLOSE
        assert float(was.vector @ wanted) < 0.6, "the map has changed something"


def test_a_map_that_does_not_help_or_cannot_be_fitted_is_refused_and_nothing_is_changed(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_gallery(tmp_path / "few", old, [image_item(0, old), vector_item(7, old)])
    kept = files(tmp_path)
    with pytest.raises(StartError, match=r"at least 60 items with an image are needed .* found 1"):
        moved(data, new, capsys, map="fit")
    assert (files(tmp_path), beside(data)) == (kept, ["few"])
    scattered = [image_item(n, old) for n in range(75)]
    rng = np.random.default_rng(3)
    for item in scattered:
        vector = rng.standard_normal(DIMENSION)
        object.__setattr__(item, "vector", (vector / np.linalg.norm(vector)).astype(np.float32))
    data = make_gallery(tmp_path / "scattered", old, [*scattered, vector_item(300, old)])
    kept = files(tmp_path)
    with pytest.raises(StartError, match=r"must find themselves first, found"):
        moved(data, new, capsys, map="fit")
    assert files(tmp_path) == kept


def test_a_map_is_read_from_a_file(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_gallery(tmp_path / "data", old, [image_item(0, old), vector_item(7, old)])
    with opened(data) as store:
        (was,) = store.get(["vector-007"])
    assert was is not None
    path, values = tmp_path / "map.npz", np.random.default_rng(0).standard_normal((DIMENSION, WIDER))
    np.savez(path, map=values[:-1])
    with pytest.raises(
        StartError, match=r"must hold finite numbers of shape 8×12, or 9×12 with a bias; found 7×12"
    ):
        moved(data, new, capsys, map=str(path))
    np.savez(path, other=values)
    with pytest.raises(StartError, match=r"must be an .npz file with an array `map`"):
        moved(data, new, capsys, map=str(path))
    np.savez(path, map=values)
    assert moved(data, new, capsys, map=str(path))["mapped"] == 1
    wanted = was.vector @ values
    np.testing.assert_allclose(contents(data)["vector-007"].vector, wanted / np.linalg.norm(wanted), atol=CLOSE)


def test_images_that_cannot_be_embedded_are_named_and_keep_the_old_gallery_in_place(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [*(image_item(n, old) for n in range(5)), image_item(80, old, data=half_a_jpeg()), image_item(81, old)]
    data = make_gallery(tmp_path / "data", old, items)
    before = contents(data)
    digest = before["image-081"].image_digest
    assert digest is not None
    (data / "images" / digest[:2] / digest[2:4] / digest).write_bytes(b"damaged")
    kept = files(data)
    with pytest.raises(StartError, match=r"^2 items have an image that cannot be embedded; repeat"):
        Reembed(data=str(data), bundle=new.folder, threads=1).run()
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("not embedded: 'image-080' in default: image ")
    assert said[2] == "not embedded: 'image-081' in default: its image is missing or damaged in the data folder"
    assert files(data) == kept
    work, mapped = (
        shutil.copytree(tmp_path, tmp_path.with_name("again")),
        np.eye(DIMENSION, WIDER, dtype=np.float32),
    )
    with embeddings(monkeypatch) as calls:
        found = moved(data, new, capsys, drop=True)
    assert sum(calls) == 2, "the others were embedded before"
    assert [one["id"] for one in found["not_embedded"]] == ["image-080", "image-081"]
    assert (found["items"], found["dropped"]) == (5, 2)
    check_moved(before, contents(data), new, 5)
    np.savez(tmp_path / "map.npz", map=mapped)
    found = moved(work / "data", new, capsys, map=str(tmp_path / "map.npz"))
    assert (found["items"], found["embedded"], found["mapped"]) == (7, 5, 2)
    after = contents(work / "data")
    assert after["image-080"].image_digest == before["image-080"].image_digest
    assert after["image-081"].image_digest is None
    check_moved(before, after, new, 5)
    Check(data=str(work / "data")).run()


def test_interrupted_it_goes_on_where_it_was_and_follows_what_has_changed(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_gallery(tmp_path / "data", old, [image_item(n, old) for n in range(11)], [image_item(30, old)])
    kept = files(data)
    monkeypatch.setattr(rewriting, "_PARTS", 2)
    with embeddings(monkeypatch, stop_after=2), pytest.raises(KeyboardInterrupt):
        moved(data, new, capsys)
    assert (files(data), beside(data)) == (kept, [".data.reembed", "data"])
    with pytest.raises(errors.OpenRefusedError, match=r"begun for width 1.0 of a bundle of the space new-space"):
        moved(data, new, capsys, width="0.5")
    with closing(EmbeddedStore(data, "old-space", DIMENSION)) as store:
        store.delete(["image-001"])
        store.upsert([image_item(2, old), image_item(40, old)])
        store.patch_metadata("image-003", {"further": 1})
    shutil.rmtree(data / "collections" / "bikes")
    before = contents(data)
    with embeddings(monkeypatch) as calls:
        assert moved(data, new, capsys)["items"] == 11
    assert sum(calls) == 11 - 5, "8 were embedded; of those, 1 is gone, and 2 are of another version"
    check_moved(before, contents(data), new, 11)
    Check(data=str(data)).run()


KILLED = """
    import json, os, shutil, signal, sys
    from pathlib import Path
    from sfsc_service.cli.reembed import Reembed
    from sfsc_service.lifecycle import reembed
    from sfsc_service.store.embedded.rewriting import GalleryRewrite

    gallery, places, bundle = map(Path, sys.argv[1:])
    reembed._IMAGES_AT_ONCE = 2
    begin, passed, last = GalleryRewrite.__init__, 0, 0
    calls = ("rename", "remove", "mkdir", "link", "chmod")
    events = {"open", "sqlite3.connect", "ctypes.dlsym", *("os." + call for call in calls)}

    def look(event, _):
        # Whatever opens, renames or removes something is a moment at which the process may die.
        global passed
        if event in events:
            passed += 1
            if passed == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    def begun(self, *arguments):
        if not passed:
            sys.addaudithook(look)
        begin(self, *arguments)

    GalleryRewrite.__init__ = begun

    def ended(moment):
        data = shutil.copytree(gallery, places / str(moment) / "data")
        read, write = os.pipe()
        if not (child := os.fork()):
            globals()["moment"] = moment
            Reembed(data=str(data), bundle=bundle, threads=1).run()
            os.write(write, str(passed).encode())
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        return int(os.read(read, 99)) if status == 0 else os.WTERMSIG(status)

    last = ended(0)
    moments = sorted({*range(1, last, max(1, last // 4)), *range(last - 3, last + 1)})
    print(json.dumps({moment: ended(moment) for moment in moments}))
"""


def test_killed_at_any_moment_the_folder_has_one_whole_gallery_and_the_command_goes_on(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery, places = (
        make_gallery(tmp_path / "gallery", old, [image_item(n, old) for n in range(5)]),
        tmp_path / "at",
    )
    before = contents(gallery)
    words = [sys.executable, "-c", textwrap.dedent(KILLED), str(gallery), str(places), str(new.folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout.splitlines()[-1])
    assert set(ended.values()) == {int(signal.SIGKILL)}
    spaces = set()
    for moment in ended:
        data = places / moment / "data"
        there = contents(data)
        assert there.keys() == before.keys()
        (space,) = {item.space for item in there.values()}
        spaces.add(space)
        Reembed(data=str(data), bundle=new.folder, threads=1).run()
        check_moved(before, contents(data), new, 5)
        aside = [path for path in data.parent.iterdir() if path != data]
        assert len(aside) == 1, f"the old gallery alone is beside it: {aside}"
        assert {item.space for item in contents(aside[0]).values()} == {"old-space"}
        assert not (data / reembed.STATE).exists()
    assert spaces == {"old-space", "new-space"}
    capsys.readouterr()


def test_a_full_disk_is_refused_before_or_leaves_the_gallery_as_it_was(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_gallery(tmp_path / "data", old, [image_item(n, old) for n in range(6)])
    before, kept = contents(data), files(data)
    with monkeypatch.context() as patch:
        patch.setattr(reembed.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
        with pytest.raises(errors.StoreFailedError, match=r"needs .* bytes of free disk space; found 1000000"):
            moved(data, new, capsys)
    assert (files(data), beside(data)) == (kept, ["data"])
    written, write = [0], segment_folder.write_segment

    def full(*arguments: Any) -> None:
        written[0] += 1
        if written[0] == 2:
            raise OSError(28, os.strerror(28), "segment")
        write(*arguments)

    with embeddings(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(segment_folder, "write_segment", full)
        with pytest.raises(errors.StoreFailedError, match=r"No space left on device"):
            moved(data, new, capsys)
    assert files(data) == kept
    with embeddings(monkeypatch) as calls:
        assert moved(data, new, capsys)["items"] == 6
    assert sum(calls) == 2
    check_moved(before, contents(data), new, 6)


def test_a_kill_while_the_copy_was_being_made_leaves_nothing_in_the_way(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_gallery(tmp_path / "data", old, [image_item(n, old) for n in range(3)])
    copy = tmp_path / ".data.reembed"
    copy.mkdir()
    (copy / f".{reembed.STATE}.tmp").write_text("{")
    with embeddings(monkeypatch, stop_after=0), pytest.raises(KeyboardInterrupt):
        moved(data, new, capsys)
    for path in copy.glob("database.sqlite*"):
        path.unlink()
    (copy / "database.sqlite").touch()
    assert moved(data, new, capsys)["items"] == 3


def test_it_is_prepared_while_a_service_goes_on_and_the_end_follows_what_has_changed(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [*(image_item(n, old) for n in range(7)), vector_item(9, old)]
    data = make_gallery(tmp_path / "data", old, items, [image_item(30, old)])
    monkeypatch.setattr(os, "nice", lambda _more: 0)
    with closing(EmbeddedStore(data, "old-space", DIMENSION)) as store:
        assert moved(data, new, capsys, prepare=True) == {"embedded": 8, "images": 8, "not_embedded": []}
        store.delete(["image-001"])
        store.upsert([image_item(2, old), image_item(40, old)])
        with embeddings(monkeypatch) as calls:
            assert moved(data, new, capsys, prepare=True)["embedded"] == 8
        assert sum(calls) == 2
        store.upsert([image_item(41, old)])
    before = contents(data)
    with embeddings(monkeypatch) as calls:
        found = moved(data, new, capsys, drop=True)
    assert (sum(calls), found["items"], found["dropped"]) == (1, 9, 1)
    check_moved(before, contents(data), new, 8)
    Check(data=str(data)).run()


def test_another_folder_takes_the_new_gallery_where_the_data_folder_must_stay(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, to = make_gallery(tmp_path / "data", old, [image_item(n, old) for n in range(3)]), tmp_path / "moved"
    before, kept = contents(data), files(data)
    with monkeypatch.context() as patch:
        patch.setattr(copy_place, "can_exchange", lambda _parent: False)
        with pytest.raises(errors.OpenRefusedError, match=r"name another folder for the new gallery"):
            moved(data, new, capsys)
        assert moved(data, new, capsys, to=to)["items"] == 3
    assert (files(data), beside(data)) == (kept, ["data", "moved"])
    check_moved(before, contents(to), new, 3)
    with pytest.raises(errors.OpenRefusedError, match=r"must be a new or an empty folder"):
        moved(data, new, capsys, to=to)


def test_what_cannot_be_moved_is_refused(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_gallery(tmp_path / "data", old, [image_item(0, old)])
    with pytest.raises(errors.DatabaseLostError):
        moved(tmp_path / "none", new, capsys)
    with pytest.raises(StartError, match=r"width: must be one of 0.5, 1.0, found 0.75"):
        moved(data, new, capsys, width="0.75")
    for wrong in (
        {"drop": True, "map": "fit"},
        {"to": tmp_path / "x", "delete_old": True},
        {"prepare": True, "drop": True},
    ):
        with pytest.raises(ValueError, match=r"only one of|must not be given with"):
            Reembed(data=str(data), bundle=new.folder, **wrong)
    with closing(EmbeddedStore(data, "old-space", DIMENSION)), pytest.raises(errors.StoreLockedError):
        moved(data, new, capsys)
    assert open_bundle(new.folder).manifest == new.manifest
    assert command_module.FIT == "fit"
