"""The index on disk, so that a start need not read every vector from the database.

It is only a cache: a new file is written beside the old one and renamed, a checksum covers the whole, and a file
that does not fit counts as missing. Format: magic, length of the header, header (JSON), sequence numbers
(int64 [n]), vectors (float32 [n, D]), sha256 of everything before it; little-endian.
"""

import hashlib
import json
import logging
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfsc_bundle.atomic_file import replacing
from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.protocol import Float32

__all__ = ["Snapshot", "read_snapshot", "write_snapshot"]

_MAGIC = b"sfscidx1"
_HEADER_LIMIT = 4_096
_DIGEST_BYTES = 32
_READ_BYTES = 1 << 24

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`sequence`: of the newest change in it; `sequences` [n] ascend; `vectors` [n, D] are memory-mapped."""

    sequence: int
    sequences: Int64
    vectors: Float32


def write_snapshot(path: Path, index: VectorIndex, sequence: int) -> None:
    """Replace the file at `path`; only for the thread that changes the index."""
    digest = hashlib.sha256()
    with replacing(path) as file:
        for part in _parts(index, sequence):
            digest.update(part)
            file.write(part)
        file.write(digest.digest())


def read_snapshot(path: Path, dimension: int) -> Snapshot | None:
    """The snapshot, or None if there is none or it is damaged, which is logged."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _parse(data, dimension)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("the index snapshot %s is not used, the index is rebuilt from the database: %s", path, error)
        return None


def _parts(index: VectorIndex, sequence: int) -> Iterator[memoryview | bytes]:
    header = json.dumps({"dimension": index.dimension, "count": len(index), "sequence": sequence}).encode()
    yield _MAGIC + struct.pack("<I", len(header)) + header
    for sequences, _ in index.chunks():
        yield sequences.astype("<i8").data.cast("B")
    for _, vectors in index.chunks():
        yield np.ascontiguousarray(vectors, "<f4").data.cast("B")


def _parse(data: mmap.mmap, dimension: int) -> Snapshot:
    start = len(_MAGIC) + 4
    if len(data) < start + _DIGEST_BYTES or data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("the file does not begin like a snapshot")
    _verify(data)
    (size,) = struct.unpack("<I", data[len(_MAGIC) : start])
    header = json.loads(data[start : start + min(size, _HEADER_LIMIT)])
    count = int(header["count"])
    if header["dimension"] != dimension:
        raise ValueError(f"its dimension is {header['dimension']}, not {dimension}")
    middle = start + size + 8 * count
    end = middle + 4 * dimension * count
    if count < 0 or end + _DIGEST_BYTES != len(data):
        raise ValueError(f"the length of the file does not fit {count} vectors")
    sequences = np.frombuffer(data[start + size : middle], "<i8").astype(np.int64)
    # np.frombuffer on the map would need an aligned offset; the header may have any length.
    vectors = np.ndarray((count, dimension), "<f4", data, middle)
    return Snapshot(int(header["sequence"]), sequences, vectors)


def _verify(data: mmap.mmap) -> None:
    digest, end = hashlib.sha256(), len(data) - _DIGEST_BYTES
    for start in range(0, end, _READ_BYTES):
        digest.update(data[start : min(start + _READ_BYTES, end)])
    if digest.digest() != data[end:]:
        raise ValueError("the checksum does not match")
