"""The headers of the two kinds of files that hold vectors. Everything is little-endian.

    header   64 bytes: magic, format version, dimension, gallery, count, checksum, CRC-32 of all before; then zeros
    NAME.log       blocks, as they were committed: header, sequence numbers, vectors, zeros up to 64 bytes;
                   the checksum is the CRC-32 of the numbers and vectors
    NAME.segment   header, table, sequence numbers, zeros up to 64 bytes, vectors, table, header; the table has the
                   CRC-32 of the numbers and vectors of each BLOCK_ROWS rows, the checksum is that of the table

Sequence numbers are int64 [count] and ascend, vectors float32 [count, D]. The gallery is the random number of the
database that the file belongs to.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.errors import FolderMismatchError
from sfsc_service.store.protocol import Float32

__all__ = ["ALIGNMENT", "BLOCK_MAGIC", "BLOCK_ROWS", "SEGMENT_MAGIC", "Header", "block_checksum", "padding"]

ALIGNMENT = 64
"""Bytes; of headers, of vectors within a file, and the length of a header."""

BLOCK_ROWS = 1_024
BLOCK_MAGIC = b"sfscblk2"
SEGMENT_MAGIC = b"sfscseg2"

_VERSION = 1
_FIELDS = struct.Struct("<8sIIQQI")
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file or a block holds: `count` vectors of `dimension`, of the gallery of this number."""

    magic: bytes
    dimension: int
    gallery: int
    count: int
    checksum: int

    def pack(self) -> bytes:
        fields = _FIELDS.pack(self.magic, _VERSION, self.dimension, self.gallery, self.count, self.checksum)
        return (fields + _CHECKSUM.pack(zlib.crc32(fields))).ljust(ALIGNMENT, b"\0")

    @classmethod
    def unpack(cls, data: bytes | memoryview, magic: bytes) -> "Header | None":
        """The header at the start of `data`; None where there is no whole one of this kind."""
        if len(data) < ALIGNMENT or data[: len(magic)] != magic:
            return None
        fields = bytes(data[: _FIELDS.size])
        (checksum,) = _CHECKSUM.unpack_from(data, _FIELDS.size)
        found, version, *rest = _FIELDS.unpack(fields)
        if zlib.crc32(fields) != checksum or version != _VERSION:
            return None
        return cls(found, *rest)

    def check_owner(self, path: Path, dimension: int, gallery: int) -> None:
        """Raises FolderMismatchError: the file at `path` belongs to another gallery."""
        if (self.dimension, self.gallery) != (dimension, gallery):
            raise FolderMismatchError(
                f"folder: {path} must hold vectors of dimension {dimension} of the gallery {gallery:016x}, as the "
                f"database says; found dimension {self.dimension}, gallery {self.gallery:016x}"
            )


def block_checksum(sequences: Int64, vectors: Float32) -> int:
    """CRC-32 over rows of both, which are contiguous and little-endian."""
    return zlib.crc32(_bytes(vectors), zlib.crc32(_bytes(sequences)))


def padding(size: int) -> int:
    """How many bytes are missing to a multiple of ALIGNMENT."""
    return -size % ALIGNMENT


def _bytes(array: Int64 | Float32) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")
