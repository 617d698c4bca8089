"""Reading a database of schema 1, to convert it."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from sfsc_service.store.embedded.sqlite.row_checksum import row_checksum
from sfsc_service.store.embedded.sqlite.schema import COLLECTION
from sfsc_service.store.errors import FolderMismatchError, StoreFailedError
from sfsc_service.store.protocol import Float32

__all__ = ["OldDatabase"]

Row = tuple[Any, ...]

_ROWS = """
SELECT sequence, id, space, width, metadata, picture, media_type, vector
FROM items LEFT JOIN vectors USING (sequence) ORDER BY sequence
"""


class OldDatabase:
    """The database at `path`, open while the `with` block runs.

    Raises:
        FolderMismatchError: it is not of schema 1, or its vectors are of another dimension or of other spaces.
        StoreFailedError: it cannot be read.
    """

    def __init__(self, path: Path, dimension: int, spaces: Collection[str]) -> None:
        self._path = path
        self._dimension = dimension
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            meta = dict(self._connection.execute("SELECT name, value FROM meta"))
        except sqlite3.Error as error:
            raise StoreFailedError(f"the database {path} cannot be opened: {error}") from error
        for name, expected in (("schema_version", 1), ("dimension", dimension)):
            if meta.get(name) != expected:
                self._connection.close()
                what = name.replace("_", " ")
                raise FolderMismatchError(
                    f"folder: {path} must be of {what} {expected} to be converted; found {meta.get(name)}"
                )
        self.last_sequence: int = meta["last_sequence"]
        self.count: int = self._connection.execute("SELECT count(*) FROM items").fetchone()[0]
        self.spaces: list[str] = [name for (name,) in self._connection.execute("SELECT name FROM spaces")]
        if others := sorted(set(self.spaces) - set(spaces)):
            self._connection.close()
            rule = f"must hold vectors of the space {' or '.join(sorted(spaces))} only"
            raise FolderMismatchError(f"folder: {path} {rule}; found {', '.join(others)}")
        self._converted = int(path.stat().st_mtime * 1e6)

    def __enter__(self) -> "OldDatabase":
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._connection.close()

    def rows(self, at_once: int) -> Iterator[tuple[list[Row], Float32]]:
        """All items as rows of schema 2 with their checksums, and their vectors [n, D], ascending, in pieces.

        When an item was created is not known: it gets the time of the last change of the file. Nor is why it has
        its width: "requested" where there is an image, so that nothing is embedded again unasked.
        """
        with closing(self._connection.execute(_ROWS)) as cursor:
            while chunk := cursor.fetchmany(at_once):
                vectors = np.stack([self._vector(row[0], row[-1]) for row in chunk])
                yield [self._row(*row[:-1]) for row in chunk], vectors

    def _row(
        self, sequence: int, id: str, space: str, width: str, metadata: str, image: str | None, kind: str | None
    ) -> Row:
        reason = "vector" if image is None else "requested"
        row = (sequence, COLLECTION, id, space, width, reason, metadata, image, kind, self._converted)
        return (*row, row_checksum(row))

    def _vector(self, sequence: int, blob: bytes | None) -> Float32:
        if blob is None or len(blob) != 4 * self._dimension:
            found = "none" if blob is None else f"{len(blob)} bytes"
            raise StoreFailedError(
                f"the database {self._path} is damaged: version {sequence} must have a vector of "
                f"{4 * self._dimension} bytes, found {found}; nothing was changed"
            )
        return np.frombuffer(blob, "<f4")
