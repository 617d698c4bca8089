"""A segment: a file of vectors that is written once as a whole, memory-mapped, and checked block by block."""

import mmap
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from sfsc_bundle.atomic_file import replacing
from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.segments.format import (
    ALIGNMENT,
    BLOCK_ROWS,
    SEGMENT_MAGIC,
    Header,
    block_checksum,
    padding,
)
from sfsc_service.store.protocol import Float32

__all__ = ["Segment", "SegmentDamagedError", "open_segment", "unmap", "write_segment"]

# Python holds all threads up meanwhile, for two milliseconds.
_UNMAPPED_BYTES = 16 << 20
# A sync of more than this at a time would hold up the syncs of commits.
_SYNC_BYTES = 4 << 20
_CHECKING_THREADS = 2

Rows = tuple[Int64, Float32]


class SegmentDamagedError(Exception):
    """Nothing of a segment can be used; the message says why."""


class Segment(NamedTuple):
    """Numbers [n], ascending, and vectors [n, D], both mapped; `whole` [n]: whether a row's block is undamaged."""

    path: Path
    sequences: Int64
    vectors: Float32
    whole: npt.NDArray[np.bool_]


def write_segment(path: Path, rows: Iterable[Rows], count: int, dimension: int, gallery: int) -> None:
    """Store `count` > 0 rows, given in pieces, durably, or leave no file. Raises OSError."""
    layout = _Layout(count, dimension)
    with replacing(path) as file:
        checksums = _write_rows(file, layout, _blocks(rows))
        table = checksums.tobytes()
        header = Header(SEGMENT_MAGIC, dimension, gallery, count, zlib.crc32(table)).pack()
        file.seek(layout.end_of_vectors)
        file.write(table + header)
        file.seek(0)
        file.write(header + table)


def open_segment(path: Path, dimension: int, gallery: int) -> Segment:
    """Map a segment and check every block of it.

    Raises:
        SegmentDamagedError: both headers are damaged.
        FolderMismatchError: it belongs to another gallery.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 2 * ALIGNMENT:
            raise SegmentDamagedError(f"it has {size} bytes only")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    header, table = _read_head(data)
    header.check_owner(path, dimension, gallery)
    layout = _Layout(header.count, dimension)
    sequences = np.frombuffer(data, "<i8", header.count, layout.start_of_sequences)
    vectors = np.frombuffer(data, "<f4", header.count * dimension, layout.start_of_vectors)
    vectors = vectors.reshape(header.count, dimension)
    return Segment(path, sequences, vectors, _check(sequences, vectors, table))


def unmap(array: npt.NDArray[Any]) -> None:
    """Give the pages of a segment, of which `array` is a part, back to the system, some at a time.

    The end of the array would give back all at once, in 150 ms for 5 GB. Until then it can be used as before.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    data = base.obj if isinstance(base, memoryview) else base
    if isinstance(data, mmap.mmap):
        for first in range(0, len(data), _UNMAPPED_BYTES):
            with suppress(OSError):  # pages that the process has locked
                data.madvise(mmap.MADV_DONTNEED, first, min(_UNMAPPED_BYTES, len(data) - first))
            time.sleep(0)


class _Layout:
    """Offsets within a segment."""

    def __init__(self, count: int, dimension: int) -> None:
        self.table_bytes = 4 * -(-count // BLOCK_ROWS)
        self.start_of_sequences = ALIGNMENT + self.table_bytes + padding(self.table_bytes)
        end_of_sequences = self.start_of_sequences + 8 * count
        self.start_of_vectors = end_of_sequences + padding(end_of_sequences)
        self.row_bytes = 4 * dimension
        self.end_of_vectors = self.start_of_vectors + self.row_bytes * count
        self.end = self.end_of_vectors + self.table_bytes + ALIGNMENT


def _write_rows(file: BinaryIO, layout: _Layout, blocks: Iterator[Rows]) -> npt.NDArray[np.uint32]:
    """Write numbers and vectors, and give the checksums of the blocks."""
    checksums, done, unsynced = [], 0, 0
    for sequences, vectors in blocks:
        file.seek(layout.start_of_sequences + 8 * done)
        file.write(sequences.astype("<i8").data)
        file.seek(layout.start_of_vectors + layout.row_bytes * done)
        file.write(np.ascontiguousarray(vectors, "<f4").data)
        checksums.append(block_checksum(sequences, vectors))
        done += len(sequences)
        unsynced += vectors.nbytes
        if unsynced > _SYNC_BYTES:
            file.flush()
            os.fdatasync(file.fileno())
            unsynced = 0
    return np.array(checksums, "<u4")


def _blocks(rows: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows, cut into blocks of BLOCK_ROWS; the last one may be shorter."""
    waiting: list[Rows] = []
    count = 0
    for sequences, vectors in rows:
        waiting.append((sequences, vectors))
        count += len(sequences)
        if count >= BLOCK_ROWS:
            joined = _joined(waiting)
            whole = count - count % BLOCK_ROWS
            for start in range(0, whole, BLOCK_ROWS):
                yield joined[0][start : start + BLOCK_ROWS], joined[1][start : start + BLOCK_ROWS]
            waiting, count = [(joined[0][whole:], joined[1][whole:])], count - whole
    if count:
        yield _joined(waiting)


def _joined(pieces: list[Rows]) -> Rows:
    return np.concatenate([s for s, _ in pieces]), np.concatenate([v for _, v in pieces])


def _read_head(data: mmap.mmap) -> tuple[Header, npt.NDArray[np.uint32]]:
    """Header and table from the start of the file, or else from its end."""
    first = Header.unpack(data[:ALIGNMENT], SEGMENT_MAGIC)
    last = Header.unpack(data[-ALIGNMENT:], SEGMENT_MAGIC)
    for header in filter(None, (first, last)):
        layout = _Layout(header.count, header.dimension)
        if layout.end != len(data):
            continue
        for start in (ALIGNMENT, layout.end_of_vectors):
            table = data[start : start + layout.table_bytes]
            if zlib.crc32(table) == header.checksum:
                return header, np.frombuffer(table, "<u4")
    raise SegmentDamagedError("neither its header nor the copy of it is whole")


def _check(sequences: Int64, vectors: Float32, table: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Whether the block of each row is as it was written."""

    def check(numbers: npt.NDArray[np.intp]) -> list[bool]:
        blocks = (slice(number * BLOCK_ROWS, (number + 1) * BLOCK_ROWS) for number in numbers.tolist())
        found = (block_checksum(sequences[rows], vectors[rows]) for rows in blocks)
        return [checksum == int(table[number]) for checksum, number in zip(found, numbers, strict=True)]

    with ThreadPoolExecutor(_CHECKING_THREADS) as pool:
        parts = pool.map(check, np.array_split(np.arange(len(table)), _CHECKING_THREADS))
    return np.repeat(np.concatenate([np.array(part, np.bool_) for part in parts]), BLOCK_ROWS)[: len(sequences)]
