"""What a store tells of its sizes and of its work in the background."""

import time
from pathlib import Path

from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.making import DIMENSION, SPACE, make_items

PATIENCE_S = 60.0


def test_rows_files_and_log_are_counted_and_the_work_in_the_background_is_timed(tmp_path: Path) -> None:
    observed: list[tuple[str, float]] = []
    store = EmbeddedStore(
        tmp_path, SPACE, DIMENSION, observe=lambda work, seconds: observed.append((work, seconds))
    )
    store.upsert(make_items(10))
    store.upsert(make_items(4, 20))
    store.delete(["item-00009"])
    sizes = store.sizes()
    assert (sizes.live_rows, sizes.dead_rows, sizes.vector_files) == (9, 5, 1)
    assert sizes.log_bytes == (tmp_path / "database.sqlite-wal").stat().st_size > 0
    assert sizes.free_bytes > 0
    store.close()
    assert [work for work, _ in observed] == ["commit"] * 3
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION, seal_rows=9, observe=lambda *found: observed.append(found))
    end = time.monotonic() + PATIENCE_S
    while (store.sizes().dead_rows or len(observed) < 4) and time.monotonic() < end:
        time.sleep(0.01)
    sizes = store.sizes()
    store.close()
    assert (sizes.live_rows, sizes.dead_rows, sizes.vector_files) == (9, 0, 1)
    assert [work for work, _ in observed] == ["commit"] * 3 + ["merge"]
    assert all(seconds > 0 for _, seconds in observed)
