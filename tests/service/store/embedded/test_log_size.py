"""The write-ahead log: it is emptied again and again, whatever reads go on beside the changes."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.store.embedded.sqlite import write_ahead_log
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.making import make_items, unit_vectors

READERS = 4
LIMIT = 1 << 18
GROUP_BYTES = 1 << 17


def test_the_write_ahead_log_stays_short_beside_filtered_reads(
    embedded: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("_LOG_BYTES", 1 << 16), ("_LOG_STEP", 1 << 14), ("_MAX_LOG_BYTES", LIMIT)):
        monkeypatch.setattr(write_ahead_log, name, size)
    log, done, sizes = tmp_path / "store" / "database.sqlite-wal", threading.Event(), list[int]()
    embedded.upsert(make_items(1_500))

    def read(reader: int) -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            assert embedded.search(unit_vectors(reader * 1_000 + turn, 1), 5, {"$id": {"$ne": ""}, "group": "g1"})[
                0
            ]

    with ThreadPoolExecutor(READERS) as pool:
        calls = [pool.submit(read, reader) for reader in range(READERS)]
        for turn in range(150):
            embedded.upsert(make_items(20, 100 * turn))
            sizes.append(log.stat().st_size)
        done.set()
        for call in calls:
            call.result()
    assert max(sizes[1:]) <= LIMIT + GROUP_BYTES
    assert sum(sizes) > 10 * LIMIT, "nothing was written that could have made it long"


def test_a_read_transaction_that_does_not_end_keeps_no_change_waiting(
    embedded: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's, say: it has no part in the gate."""
    monkeypatch.setattr(write_ahead_log, "_LOG_BYTES", 1 << 14)
    monkeypatch.setattr(write_ahead_log, "_LOG_STEP", 1 << 14)
    embedded.upsert(make_items(30))
    with embedded._readers.acquire() as reader:
        reader._connection.execute("BEGIN")
        reader.composition()
        for turn in range(10):
            embedded.upsert(make_items(20, 100 * turn))
        reader._connection.execute("ROLLBACK")
    log = tmp_path / "store" / "database.sqlite-wal"
    grown = log.stat().st_size
    embedded.upsert(make_items(20, 5))
    embedded.delete(["nowhere"])  # its group is worked on after the log was emptied
    assert log.stat().st_size < grown


def test_emptying_it_on_a_slow_disk_is_no_fault_of_the_database(embedded: EmbeddedStore, tmp_path: Path) -> None:
    """Nobody else can change the database meanwhile, and no transaction is open."""
    log, told = embedded._database.log, list[object]()
    real = log._connection

    class SlowDisk:
        def execute(self, sql: str) -> Any:
            if "checkpoint" in sql:
                with closing(sqlite3.connect(tmp_path / "store" / "database.sqlite")) as locked:
                    locked.execute("BEGIN IMMEDIATE")
                    told.append(embedded.fault())
                    locked.execute("ROLLBACK")
            return real.execute(sql)

    log._connection = SlowDisk()  # type: ignore[assignment]
    assert log.empty()
    assert told == [None]
    assert embedded.fault() is None
