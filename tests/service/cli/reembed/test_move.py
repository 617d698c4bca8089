"""`sfsc reembed` on real folders: images get their vectors of the new bundle; a refusal changes nothing."""

import os
import re
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from sfsc_bundle.folder import Bundle, open_bundle
from sfsc_service.cli import reembed as command_module
from sfsc_service.cli.check import Check
from sfsc_service.cli.folder import opened
from sfsc_service.cli.reembed import Reembed
from sfsc_service.errors import StartError
from sfsc_service.lifecycle import copy_place
from sfsc_service.settings import Settings
from sfsc_service.store import errors
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.cli.reembed.moving import (
    CLOSE,
    DIMENSION,
    WIDER,
    beside,
    check_moved,
    contents,
    embedded,
    embeddings,
    files,
    image_item,
    make_gallery,
    moved,
    vector_item,
)
from tests.service.images import draw_image, half_a_jpeg
from tests.service.live import running


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
