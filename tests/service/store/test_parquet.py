"""An export has every item, an import puts every item back, and both may be interrupted."""

from pathlib import Path

import pytest

from sfsc_service.cli.export import Export
from sfsc_service.cli.parquet_import import Import
from sfsc_service.store import errors, parquet
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.agreement import walk
from tests.service.store.making import DIMENSION, OLD_SPACE, SPACE, make_item

COUNT = 25


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 25 items, of which the even ones have an image; parts of ten."""
    monkeypatch.setattr(parquet, "_PART_ITEMS", 10)
    monkeypatch.setattr(parquet, "_PAGE_ITEMS", 4)
    store = EmbeddedStore(tmp_path / "data", SPACE, DIMENSION, [OLD_SPACE])
    spaces = (SPACE, OLD_SPACE)
    store.upsert([make_item(f"ü{n:02}", n, image=n % 2 == 0, space=spaces[n % 2]) for n in range(COUNT)])
    store.close()
    return tmp_path / "data"


def everything(folder: Path) -> list[object]:
    store = EmbeddedStore(folder, SPACE, DIMENSION, [OLD_SPACE])
    found = [
        (item.id, item.space, item.width, item.reason, item.metadata, item.vector.tobytes(), store.image(item.id))
        for item in walk(store)
    ]
    store.close()
    return list(found)


def without_images(items: list[object]) -> list[object]:
    return [item[:-1] for item in items if isinstance(item, tuple)]


def test_what_was_exported_is_imported_as_it_was_and_once_only(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Export(data=str(data), to=tmp_path / "out", images=True).run()
    assert capsys.readouterr().out.startswith(f"25 items, 13 of them with their image: in {tmp_path / 'out'}, ")
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 3
    for said in ("25 created, 0 replaced, 0 unchanged", "0 created, 0 replaced, 25 unchanged"):
        Import(source=tmp_path / "out", data=str(tmp_path / "copy")).run()
        assert capsys.readouterr().out == f"items: {said}\n"
        assert everything(tmp_path / "copy") == everything(data)


def test_without_images_everything_else_is_exported(data: Path, tmp_path: Path) -> None:
    Export(data=str(data), to=tmp_path / "out").run()
    Import(source=tmp_path / "out", data=str(tmp_path / "copy")).run()
    assert without_images(everything(tmp_path / "copy")) == without_images(everything(data))
    assert all(item[-1] is None for item in everything(tmp_path / "copy") if isinstance(item, tuple))


class StoppedError(Exception):
    pass


def stop_after(items: int) -> parquet.Progress:
    def progress(done: int, _total: int) -> None:
        if done >= items:
            raise StoppedError

    return progress


def test_interrupted_export_and_import_are_resumed(data: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "out", EmbeddedStore(data, SPACE, DIMENSION, [OLD_SPACE])
    with pytest.raises(StoppedError):
        parquet.export_items(store, out, images=True, progress=stop_after(10))
    first = (out / "part-00000.parquet").stat().st_mtime_ns
    with pytest.raises(errors.OpenRefusedError, match="is no finished export"):
        parquet.read_manifest(out)
    manifest = parquet.export_items(store, out, images=True, progress=lambda _done, _total: None)
    store.close()
    assert (manifest.items, manifest.images, len(manifest.parts)) == (COUNT, 13, 3)
    assert (out / "part-00000.parquet").stat().st_mtime_ns == first
    copy = EmbeddedStore(tmp_path / "copy", SPACE, DIMENSION, [OLD_SPACE])
    with pytest.raises(StoppedError):
        parquet.import_items(copy, out, manifest, stop_after(20))
    found = parquet.import_items(copy, out, manifest, lambda _done, _total: None)
    copy.close()
    assert (found.created, found.unchanged) == (5, 20)
    assert everything(tmp_path / "copy") == everything(data)


def test_a_damaged_or_missing_part_stops_an_import_before_anything_is_stored(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    Export(data=str(data), to=out).run()
    with pytest.raises(errors.OpenRefusedError, match="must be a new folder"):
        Export(data=str(data), to=out).run()
    part = out / "part-00001.parquet"
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)
    with pytest.raises(errors.OpenRefusedError, match="not as it was exported; nothing was imported"):
        Import(source=out, data=str(tmp_path / "copy")).run()
    assert everything(tmp_path / "copy") == []


def test_items_of_a_foreign_space_are_not_imported(data: Path, tmp_path: Path) -> None:
    Export(data=str(data), to=tmp_path / "out").run()
    EmbeddedStore(tmp_path / "other", "space-z", DIMENSION).close()
    with pytest.raises(errors.FolderMismatchError, match="must hold vectors of the space space-a or space-b"):
        Import(source=tmp_path / "out", data=str(tmp_path / "other")).run()
