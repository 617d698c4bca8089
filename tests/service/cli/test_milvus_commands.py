"""A gallery moves from a data folder into Milvus and back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sfsc_service.cli.any_store import opened_store
from sfsc_service.cli.export import Export
from sfsc_service.cli.parquet_import import Import
from sfsc_service.errors import StartError
from sfsc_service.store import errors
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Store
from tests.service.store.agreement import walk
from tests.service.store.making import DIMENSION, OLD_SPACE, SPACE, make_item
from tests.service.store.milvus_galleries import lite_server, need_pymilvus
from tests.service.store.object_store import BUCKET, aws_settings, in_environment, need_s3, s3_server


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    need_pymilvus()
    with lite_server(tmp_path / "milvus") as found:
        yield found


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A folder of 25 items of two spaces, of which the even ones have an image."""
    store = EmbeddedStore(tmp_path / "data", SPACE, DIMENSION, [OLD_SPACE])
    spaces = (SPACE, OLD_SPACE)
    store.upsert([make_item(f"ü{n:02}", n, image=n % 2 == 0, space=spaces[n % 2]) for n in range(25)])
    store.close()
    return str(tmp_path / "data")


def everything(store: Store) -> list[object]:
    return [
        (item.id, item.space, item.width, item.reason, item.metadata, item.vector.tobytes(), store.image(item.id))
        for item in walk(store)
    ]


@pytest.fixture(params=["folder", "s3"])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where the images of a gallery in Milvus are."""
    if request.param == "folder":
        yield str(tmp_path / "images")
        return
    need_s3()
    with s3_server(tmp_path / "s3.log") as server, in_environment(aws_settings(server.address)):
        yield f"s3://{BUCKET}/images"


def test_a_gallery_moves_into_milvus_and_back(
    address: str, data: str, images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    with opened_store(data, None) as embedded:
        before = everything(embedded)
    Export(data=data, to=out, images=True).run()
    for said in ("25 created, 0 replaced, 0 unchanged", "0 created, 0 replaced, 25 unchanged"):
        capsys.readouterr()
        Import(source=out, data=address, image_folder=images).run()
        assert capsys.readouterr().out == f"items: {said}\n"
    with opened_store(address, images) as in_milvus:
        assert everything(in_milvus) == before
    Export(data=address, to=back, images=True, image_folder=images).run()
    Import(source=back, data=str(tmp_path / "copy")).run()
    with opened_store(str(tmp_path / "copy"), None) as copy:
        assert everything(copy) == before


def test_what_is_missing_or_cannot_share_a_gallery_in_milvus_is_named(
    address: str, data: str, tmp_path: Path
) -> None:
    images, out = str(tmp_path / "images"), tmp_path / "out"
    with pytest.raises(StartError, match="image_folder: must be given where the gallery is in Milvus"):
        Export(data=address, to=out).run()
    with pytest.raises(errors.DatabaseLostError, match="Milvus has no gallery at this address"):
        Export(data=address, to=out, image_folder=images).run()
    Export(data=data, to=out).run()
    Import(source=out, data=address, image_folder=images).run()
    foreign = EmbeddedStore(tmp_path / "foreign", "space-z", DIMENSION)
    foreign.upsert([make_item("z", space="space-z")])
    foreign.close()
    Export(data=str(tmp_path / "foreign"), to=tmp_path / "z").run()
    with pytest.raises(errors.FolderMismatchError, match="must hold vectors of the space space-z; found space-a"):
        Import(source=tmp_path / "z", data=address, image_folder=images).run()


def test_items_that_do_not_stay_in_the_store_stop_an_import(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Export(data=data, to=tmp_path / "out").run()
    upsert = EmbeddedStore.upsert
    monkeypatch.setattr(EmbeddedStore, "upsert", lambda store, items: upsert(store, items[1:]))
    with pytest.raises(errors.StoreFailedError, match="1 items are not in the store as they were exported"):
        Import(source=tmp_path / "out", data=str(tmp_path / "copy")).run()
