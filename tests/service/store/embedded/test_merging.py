"""The exchange of rows in a log or segments for those of a new segment, beside changes, crashes and failures."""

import mmap
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfsc_service.store.embedded.segments.merge_plan import FANOUT
from sfsc_service.store.embedded.segments.segment import open_segment, unmap, write_segment
from tests.service.store.agreement import assert_agrees
from tests.service.store.embedded.test_segments import (
    GALLERY,
    TIMEOUT_S,
    logs,
    open_store,
    segments,
    until,
    upsert_and_seal,
)
from tests.service.store.making import DIMENSION, make_items, unit_vectors
from tests.service.store.oracle import Oracle


def test_a_crash_between_a_segment_and_the_deletion_of_what_it_replaces_does_no_harm(tmp_path: Path) -> None:
    oracle, store, copy = Oracle(), open_store(tmp_path / "a", seal_rows=30), tmp_path / "copy"
    store._segments.remove = lambda _paths, _loads: None  # type: ignore[method-assign]
    for turn in range(8):
        upsert_and_seal(store, make_items(30, 100 * turn, f"p{turn % 5}"), 30)
        oracle.upsert(make_items(30, 100 * turn, f"p{turn % 5}"))
    until(lambda: len(segments(tmp_path / "a")) > FANOUT)
    shutil.copytree(tmp_path / "a", copy)
    store.close()
    before = len(segments(copy)) + len(logs(copy))
    store = open_store(copy)
    assert_agrees(store, oracle)
    assert len(segments(copy)) + len(logs(copy)) < before
    store.close()
    assert not (copy / "segments" / "quarantine").exists()


@pytest.mark.parametrize("step", ["write", "prepare_replacement", "remove"])
def test_changes_go_on_while_a_segment_is_written_prepared_or_removed(step: str, tmp_path: Path) -> None:
    store, oracle = open_store(tmp_path, seal_rows=30), Oracle()
    part: Any = store._index if step == "prepare_replacement" else store._segments
    waiting, go_on, call = threading.Event(), threading.Event(), getattr(part, step)

    def held(*words: Any) -> Any:
        waiting.set()
        assert go_on.wait(TIMEOUT_S)
        return call(*words)

    setattr(part, step, held)
    store.upsert(make_items(30, 0, "p"))
    oracle.upsert(make_items(30, 0, "p"))
    assert waiting.wait(TIMEOUT_S)
    store.upsert(make_items(5, 100, "q"))
    oracle.upsert(make_items(5, 100, "q"))
    gone = [item.id for item in make_items(3, 0, "p")]
    assert store.delete(gone) == oracle.delete(gone)
    assert_agrees(store, oracle)
    go_on.set()
    until(lambda: len(segments(tmp_path)) == 1 and len(logs(tmp_path)) == 1)
    assert_agrees(store, oracle)
    store.close()
    store = open_store(tmp_path)
    assert_agrees(store, oracle)
    store.close()


def test_files_that_a_rebuild_reads_again_are_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index fails between the exchange of its rows and the removal of the files that they were in."""
    store, oracle = open_store(tmp_path, seal_rows=30), Oracle()
    waiting, go_on, done, remove = *(threading.Event() for _ in range(3)), store._segments.remove

    def held(*words: Any) -> None:
        waiting.set()
        assert go_on.wait(TIMEOUT_S)
        remove(*words)
        done.set()

    def fail(*_: Any) -> None:
        monkeypatch.undo()
        raise MemoryError

    store._segments.remove = held  # type: ignore[method-assign]
    for changed in (store, oracle):
        changed.upsert(make_items(30, 0, "p"))  # type: ignore[attr-defined]
    assert waiting.wait(TIMEOUT_S)
    monkeypatch.setattr(store._index, "apply", fail)
    gone = [item.id for item in make_items(3, 0, "p")]
    assert store.delete(gone) == oracle.delete(gone)
    go_on.set()
    assert done.wait(TIMEOUT_S)
    for turn in range(3):
        store.upsert(make_items(5, 100 + 10 * turn, "q"))
        oracle.upsert(make_items(5, 100 + 10 * turn, "q"))
    assert_agrees(store, oracle)
    store.close()
    store = open_store(tmp_path)
    assert_agrees(store, oracle)
    assert not store.faults
    store.close()


def resident(path: Path) -> int:
    """KiB of a mapped file that this process has in memory."""
    maps = Path("/proc/self/smaps").read_text().splitlines()
    starts = [number for number, line in enumerate(maps) if line.endswith(str(path))]
    return sum(int(re.findall(r"Rss: +([0-9]+)", "\n".join(maps[at : at + 8]))[0]) for at in starts)


def test_an_unmapped_segment_can_be_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.store.embedded.segments.segment._UNMAPPED_BYTES", mmap.PAGESIZE)
    vectors = unit_vectors(1, 3_000)
    write_segment(tmp_path / "1.segment", [(np.arange(3_000), vectors)], 3_000, DIMENSION, GALLERY)
    segment = open_segment(tmp_path / "1.segment", DIMENSION, GALLERY)
    assert resident(segment.path) > 0
    unmap(segment.vectors)
    assert resident(segment.path) == 0
    assert np.array_equal(segment.vectors, vectors)
    assert np.array_equal(segment.sequences, np.arange(3_000))
    unmap(np.zeros(3))
