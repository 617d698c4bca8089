"""The checksum of a row of `items`: a flipped bit in any column is noticed when the row is read."""

import zlib
from collections.abc import Sequence
from typing import Any

__all__ = ["row_checksum", "row_is_whole"]


def row_checksum(values: Sequence[Any]) -> int:
    """CRC-32 over the columns schema.ROW_COLUMNS of one row."""
    return zlib.crc32("\0".join(map(str, values)).encode("utf-8", "surrogateescape"))


def row_is_whole(row: Sequence[Any]) -> bool:
    """Whether a row, ROW_COLUMNS and then its checksum, is as it was written."""
    return bool(row_checksum(row[:-1]) == row[-1])
