"""The log: the vectors of the newest changes, a block for each group of them, durable before the group commits."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfsc_bundle.atomic_file import sync
from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.segments.format import (
    ALIGNMENT,
    BLOCK_MAGIC,
    Header,
    block_checksum,
    padding,
)
from sfsc_service.store.protocol import Float32

__all__ = ["LogContents", "VectorLog", "read_log"]


class VectorLog:
    """The file at `path`, to which blocks are appended from `end` on; it is created if it is missing.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, gallery: int, end: int = 0) -> None:
        self.path = path
        self._gallery = gallery
        self._end = end
        created = not path.exists()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if created:
            sync([path.parent])

    def append(self, sequences: Int64, vectors: Float32) -> None:
        """Store a block, durably.

        Raises:
            OSError: it may be there, in part or whole; use another log from now on.
        """
        checksum = block_checksum(sequences, vectors)
        header = Header(BLOCK_MAGIC, vectors.shape[1], self._gallery, len(sequences), checksum)
        content = b"".join((header.pack(), sequences.tobytes(), vectors.tobytes()))
        content += bytes(padding(len(content)))
        written = 0
        while written < len(content):
            written += os.pwrite(self._descriptor, memoryview(content)[written:], self._end + written)
        os.fdatasync(self._descriptor)
        self._end += len(content)

    def close(self) -> None:
        os.close(self._descriptor)


class LogContents(NamedTuple):
    """The whole blocks of a log, one after the other: numbers [n] ascending, vectors [n, D].

    `blocks`: how many. `end`: where they end. `damaged`: whether something before it is no whole block.
    `last_sequence`: the highest number in the file, after `end` included.
    """

    sequences: Int64
    vectors: Float32
    blocks: int
    end: int
    damaged: bool
    last_sequence: int


def read_log(path: Path, dimension: int, gallery: int, last_sequence: int) -> LogContents:
    """The blocks up to the version `last_sequence`, the newest that may be committed.

    Raises:
        FolderMismatchError: it belongs to another gallery.
        OSError: it cannot be read.
    """
    sequences, vectors = [np.empty(0, np.int64)], [np.empty((0, dimension), np.float32)]
    end, damaged, highest = 0, False, 0
    for start, block in _blocks(path, dimension, gallery):
        highest = int(block.sequences[-1])
        if highest <= last_sequence:
            damaged = damaged or start != end
            sequences.append(block.sequences)
            vectors.append(block.vectors)
            end = block.end
    return LogContents(
        np.concatenate(sequences), np.concatenate(vectors), len(sequences) - 1, end, damaged, highest
    )


class _Block(NamedTuple):
    sequences: Int64
    vectors: Float32
    end: int


def _blocks(path: Path, dimension: int, gallery: int) -> Iterator[tuple[int, _Block]]:
    """Offsets and contents of the whole blocks; what is none is passed over."""
    data = path.read_bytes()
    start = 0
    while (start := data.find(BLOCK_MAGIC, start)) >= 0:
        header = Header.unpack(data[start : start + ALIGNMENT], BLOCK_MAGIC) if start % ALIGNMENT == 0 else None
        if header:
            header.check_owner(path, dimension, gallery)
        block = _block(data, start, header) if header else None
        if block:
            yield start, block
        start = block.end if block else start + 1


def _block(data: bytes, start: int, header: Header) -> _Block | None:
    middle = start + ALIGNMENT + 8 * header.count
    end = middle + 4 * header.dimension * header.count
    if end > len(data) or not header.count:
        return None
    sequences = np.frombuffer(data[start + ALIGNMENT : middle], "<i8")
    vectors = np.frombuffer(data[middle:end], "<f4").reshape(header.count, header.dimension)
    if block_checksum(sequences, vectors) != header.checksum:
        return None
    return _Block(sequences, vectors, end + padding(end))
