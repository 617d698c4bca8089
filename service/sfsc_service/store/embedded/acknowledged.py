"""The number of the newest acknowledged change, beside the database: it tells when the database has lost changes.

A damaged write-ahead log ends, for SQLite, where the damage begins; what was committed after it is gone without an
error. The number here is written after each commit and before its answer.
"""

import logging
import os
import struct
import zlib
from pathlib import Path

__all__ = ["AcknowledgedMark", "read_mark"]

_FIELDS = struct.Struct("<8sq")
_CHECKSUM = struct.Struct("<I")
_MAGIC = b"sfscack2"

_log = logging.getLogger(__name__)


class AcknowledgedMark:
    """The file at `path`; `found`: the number that was there, or None. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.found = read_mark(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def set(self, sequence: int) -> None:
        """Change the number; where that fails, less is noticed and nothing is lost."""
        fields = _FIELDS.pack(_MAGIC, sequence)
        try:
            os.pwrite(self._descriptor, fields + _CHECKSUM.pack(zlib.crc32(fields)), 0)
        except OSError as error:
            _log.warning("the number of the newest change could not be noted: %s", error)

    def close(self) -> None:
        os.close(self._descriptor)


def read_mark(path: Path) -> int | None:
    """The number in the file at `path`; None where there is none or it is damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if (
        len(data) != _FIELDS.size + _CHECKSUM.size
        or zlib.crc32(data[: _FIELDS.size]) != _CHECKSUM.unpack_from(data, _FIELDS.size)[0]
    ):
        _log.warning("%s is damaged; whether the database is complete cannot be told from it", path)
        return None
    return int(_FIELDS.unpack_from(data)[1])
