"""What the tests of `sfsc reembed` share: galleries, what they hold, and the command."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import Runner, make_runner
from sfsc_service.cli.folder import opened
from sfsc_service.cli.reembed import Reembed
from sfsc_service.engine.offline_embedding import OfflineEmbedder
from sfsc_service.lifecycle import reembed
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.stores import EmbeddedStores
from sfsc_service.store.open_stores import OpenStores
from sfsc_service.store.protocol import EncodedImage, Item, StoredItem
from tests.service.images import draw_image

DIMENSION, WIDER = 8, 12
OF_READERS = ("lock", "-wal", "-shm")
CLOSE = 1e-5
"""Vectors of batches of other sizes differ by less."""


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
