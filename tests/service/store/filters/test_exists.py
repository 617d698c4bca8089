"""{"exists": "field"}: what one new operator takes, a file of the product and this one."""

from dataclasses import replace
from pathlib import Path

from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.making import DIMENSION, SPACE, make_item


def test_exists_keeps_the_items_that_have_the_field(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    with_field = replace(make_item("with", 1), metadata={"camera": {"id": None}})
    store.upsert([with_field, replace(make_item("without", 2), metadata={"camera": 1})])
    found = [item.id for item in store.page(filter={"exists": "camera.id"}).items]
    store.close()
    assert found == ["with"]
