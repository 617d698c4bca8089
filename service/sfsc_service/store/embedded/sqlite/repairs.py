"""Changes of the database that only a repair makes, on a folder that is not in use."""

import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sfsc_service.store.embedded.sqlite.row_checksum import row_checksum
from sfsc_service.store.embedded.sqlite.schema import ROW_COLUMNS, connect

__all__ = ["forget_images", "rebuild", "remove_versions", "rows_as_found", "shrink"]

_COLUMNS = ", ".join((*ROW_COLUMNS, "checksum"))
_AMONG = "sequence IN (SELECT value FROM json_each(?))"


def rows_as_found(path: Path, sequences: Collection[int]) -> list[dict[str, Any]]:
    """The columns of these versions, whole or not."""
    with closing(connect(path)) as connection:
        rows = connection.execute(f"SELECT {_COLUMNS} FROM items WHERE {_AMONG}", (_numbers(sequences),))
        return [dict(zip((*ROW_COLUMNS, "checksum"), row, strict=True)) for row in rows]


def remove_versions(path: Path, sequences: Collection[int]) -> None:
    """Delete the rows of these versions."""
    with _transaction(path) as connection:
        connection.execute(f"DELETE FROM items WHERE {_AMONG}", (_numbers(sequences),))
        _correct_sum(connection)


def forget_images(path: Path, sequences: Collection[int]) -> None:
    """Let the rows of these versions, which are whole otherwise, refer to no image."""
    with _transaction(path) as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM items WHERE {_AMONG}", (_numbers(sequences),)
        ).fetchall()
        for row in rows:
            without = dict(zip(ROW_COLUMNS, row, strict=False)) | {"image": None, "media_type": None}
            connection.execute(
                "UPDATE items SET image = NULL, media_type = NULL, checksum = ? WHERE sequence = ?",
                (row_checksum(list(without.values())), without["sequence"]),
            )
        _correct_sum(connection)


def rebuild(path: Path) -> None:
    """Build the indexes anew, and correct the sum of the rows' checksums."""
    with _transaction(path) as connection:
        connection.execute("REINDEX")
        _correct_sum(connection)


def shrink(path: Path) -> None:
    """Give the space of deleted rows back, and empty the log."""
    with closing(connect(path)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _transaction(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")


def _correct_sum(connection: sqlite3.Connection) -> None:
    connection.execute(
        "UPDATE meta SET value = (SELECT coalesce(sum(checksum), 0) FROM items NOT INDEXED) "
        "WHERE name = 'checksum_sum'"
    )


def _numbers(sequences: Collection[int]) -> str:
    return json.dumps(sorted(sequences))
