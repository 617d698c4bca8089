"""The folder of vectors: which files there are, which rows of them are used, and which files may go.

Invariants:
- A vector is durable here before the row that has its sequence number commits.
- The vector of a sequence number is the same in whatever file it stands, so a crash between writing a file and
  deleting those that it replaces does no harm: what newer files have already is passed over.
- A file in which something is damaged is never deleted, but moved to `quarantine`.
"""

import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sfsc_bundle.atomic_file import sync
from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.segments.log import LogContents, VectorLog, read_log
from sfsc_service.store.embedded.segments.segment import (
    Segment,
    SegmentDamagedError,
    open_segment,
    write_segment,
)
from sfsc_service.store.protocol import Float32

__all__ = ["Loaded", "LoadedSegment", "SegmentFolder"]

_log = logging.getLogger(__name__)


class LoadedSegment(NamedTuple):
    """A segment and which of its rows [n] are used."""

    segment: Segment
    used: npt.NDArray[np.bool_]

    @property
    def sequences(self) -> Int64:
        """Of the rows that are used."""
        return self.segment.sequences if self.used.all() else self.segment.sequences[self.used]

    def overlaps(self, other: Segment) -> bool:
        """Whether the range of its numbers and that of `other` have some in common."""
        mine = self.segment.sequences
        return bool(mine[0] <= other.sequences[-1] and other.sequences[0] <= mine[-1])


class Loaded(NamedTuple):
    """What a start finds: segments in the order of their numbers, and the rows of the log, which come after them.

    `lost`: the versions that the database has and no file. `last_sequence`: the highest number in any file.
    """

    segments: list[LoadedSegment]
    sequences: Int64
    vectors: Float32
    lost: Int64
    last_sequence: int


class SegmentFolder:
    """`gallery`: the number of the database that the vectors belong to.

    `write` and `remove` may run beside the others, of which one runs at a time.
    """

    def __init__(self, folder: Path, dimension: int, gallery: int) -> None:
        self.folder = folder
        self._quarantine = folder / "quarantine"
        self._dimension = dimension
        self._gallery = gallery
        folder.mkdir(exist_ok=True)
        self._logs: dict[Path, int] = {}
        self._open_log: VectorLog | None = None
        self._damaged: set[Path] = set()
        self._numbering = Lock()
        self._reading = Lock()
        self.loads = 0
        """How often the files were read; the rows that were used before may be in other files since."""
        self._next_number = 1 + max(map(_number, self._files("log", "segment")), default=0)

    def load(self, known: Int64, last_sequence: int) -> Loaded:
        """Read what there is of the versions `known`, ascending; cut what was never committed.

        Raises:
            FolderMismatchError: a file belongs to another gallery.
            OSError: a file cannot be read or written.
        """
        with self._reading:
            return self._load(known, last_sequence)

    def _load(self, known: Int64, last_sequence: int) -> Loaded:
        self.close()
        self.loads += 1
        for unfinished in self.folder.glob(".*.tmp"):
            unfinished.unlink()
        segments = self._load_segments(known)
        paths = sorted(self._files("log"), key=_number)
        logs = {path: read_log(path, self._dimension, self._gallery, last_sequence) for path in paths}
        sequences, vectors = self._rows_of_logs(logs, known, segments)
        found = np.concatenate([*(part.sequences for part in segments), sequences])
        lost = known[:0] if np.array_equal(found, known) else known[~_isin(known, np.sort(found))]
        self._continue_logs(logs, lost)
        highest = max(
            [
                last_sequence,
                *(int(part.segment.sequences[-1]) for part in segments),
                *(log.last_sequence for log in logs.values()),
            ]
        )
        return Loaded(segments, sequences, vectors, lost, highest)

    @property
    def empty(self) -> bool:
        """Whether there are no vectors at all."""
        return not self._files("log", "segment")

    @property
    def file_count(self) -> int:
        """How many files of vectors there are. Raises OSError."""
        return len(self._files("log", "segment"))

    @property
    def size(self) -> int:
        """How many bytes they have. Raises OSError."""
        return sum(path.stat().st_size for path in self._files("log", "segment"))

    def append(self, sequences: Int64, vectors: Float32) -> None:
        """Store rows in the log, durably.

        Raises:
            OSError: they may be there all the same; their numbers must not be used again.
        """
        if not len(sequences):
            return
        try:
            if self._open_log is None:
                self._open_log = VectorLog(self._new_path("log"), self._gallery)
                self._logs[self._open_log.path] = 0
            self._open_log.append(sequences, vectors)
            self._logs[self._open_log.path] += 1
        except OSError:
            self.close()
            raise

    def rotate(self) -> list[Path]:
        """Begin a new log with the next rows; the logs so far, to be retired once their rows are in a segment."""
        self.close()
        return list(self._logs)

    @property
    def log_blocks(self) -> int:
        """How many blocks the logs have."""
        return sum(self._logs.values())

    def write(self, rows: Iterable[tuple[Int64, Float32]], count: int) -> Segment:
        """Store `count` > 0 rows, given in pieces, as a new segment. Raises OSError."""
        path = self._new_path("segment")
        write_segment(path, rows, count, self._dimension, self._gallery)
        return open_segment(path, self._dimension, self._gallery)

    def damaged_rows(self, path: Path) -> Int64:
        """The versions in a file whose blocks are not as they were written; a log has none. Raises OSError."""
        if path.suffix == ".log":
            return np.empty(0, np.int64)
        segment = open_segment(path, self._dimension, self._gallery)
        if not segment.whole.all():
            self._damaged.add(path)
        return segment.sequences[~segment.whole]

    def retire(self, paths: Collection[Path]) -> None:
        """Remove files whose used rows are elsewhere; a damaged one is kept in the quarantine."""
        self.forget(paths)
        self._remove(paths)

    def forget(self, paths: Collection[Path]) -> None:
        """Count logs no more whose used rows are elsewhere."""
        for path in paths:
            self._logs.pop(path, None)

    def remove(self, paths: Collection[Path], loads: int) -> None:
        """As `retire`, of files that were forgotten when there had been so many `loads`.

        A large file takes the system a while, so this may run beside everything else. Files that were read again
        meanwhile may be in use again, and stay: that reading retires what it does not use.
        """
        with self._reading:
            if self.loads == loads:
                self._remove(paths)

    def _remove(self, paths: Collection[Path]) -> None:
        for path in paths:
            try:
                if path in self._damaged:
                    self._quarantine.mkdir(exist_ok=True)
                    path.rename(self._quarantine / path.name)
                    _log.warning("%s is damaged and was moved to %s", path, self._quarantine)
                else:
                    path.unlink()
            except OSError as error:
                _log.warning("the file %s is not needed any more and could not be removed: %s", path, error)

    def close(self) -> None:
        """Close the log; the next `append` begins a new one."""
        if self._open_log is not None:
            self._open_log.close()
            self._open_log = None

    def _load_segments(self, known: Int64) -> list[LoadedSegment]:
        """The segments that are used, in the order of their rows."""
        newest_first = sorted(self._files("segment"), key=_number, reverse=True)
        used: list[LoadedSegment] = []
        for segment in filter(None, map(self._open, newest_first)):
            fresh = segment.whole & _isin(segment.sequences, known)
            for other in used:
                if other.overlaps(segment):
                    fresh &= ~_isin(segment.sequences, other.sequences)
            if fresh.any():
                used.append(LoadedSegment(segment, fresh))
            else:
                self.retire([segment.path])
        return self._separated(sorted(used, key=lambda part: int(part.segment.sequences[0])))

    def _open(self, path: Path) -> Segment | None:
        try:
            segment = open_segment(path, self._dimension, self._gallery)
        except SegmentDamagedError as error:
            _log.error("the segment %s cannot be used: %s", path, error)
            self._damaged.add(path)
            self.retire([path])
            return None
        if not segment.whole.all():
            _log.error("the segment %s is damaged in %d of its rows", path, np.count_nonzero(~segment.whole))
            self._damaged.add(path)
        return segment

    def _separated(self, parts: list[LoadedSegment]) -> list[LoadedSegment]:
        """The same rows; segments whose ranges of numbers overlap, which damage alone brings about, become one."""
        separated: list[LoadedSegment] = []
        for part in parts:
            if separated and separated[-1].overlaps(part.segment):
                part = self._joined(separated.pop(), part)
            separated.append(part)
        return separated

    def _joined(self, *parts: LoadedSegment) -> LoadedSegment:
        sequences = np.concatenate([part.sequences for part in parts])
        vectors = np.concatenate([part.segment.vectors[part.used] for part in parts])
        order = np.argsort(sequences)
        segment = self.write([(sequences[order], vectors[order])], len(order))
        self.retire([part.segment.path for part in parts])
        return LoadedSegment(segment, segment.whole)

    def _rows_of_logs(
        self, logs: dict[Path, LogContents], known: Int64, segments: list[LoadedSegment]
    ) -> tuple[Int64, Float32]:
        """The rows that no segment has, ascending."""
        numbers = [np.empty(0, np.int64), *(log.sequences for log in logs.values())]
        rows = [np.empty((0, self._dimension), np.float32), *(log.vectors for log in logs.values())]
        sequences, first = np.unique(np.concatenate(numbers), return_index=True)
        fresh = _isin(sequences, known)
        for part in segments:
            fresh &= ~_isin(sequences, part.sequences)
        return sequences[fresh], np.concatenate(rows)[first[fresh]]

    def _continue_logs(self, logs: dict[Path, LogContents], lost: Int64) -> None:
        """Cut what no commit followed; where versions are lost it may be what is left of them, and is kept."""
        self._logs = {path: log.blocks for path, log in logs.items()}
        for path, log in logs.items():
            size = path.stat().st_size
            if log.damaged or (size > log.end and len(lost)):
                _log.error("the log %s is damaged", path)
                self._damaged.add(path)
            elif size > log.end:
                os.truncate(path, log.end)
                sync([path])
                _log.info("cut %d bytes from the log %s, which were never committed", size - log.end, path)
        if len(logs) == 1 and not self._damaged.intersection(logs):
            ((path, log),) = logs.items()
            self._open_log = VectorLog(path, self._gallery, log.end)

    def _files(self, *suffixes: str) -> list[Path]:
        return [path for suffix in suffixes for path in self.folder.glob(f"[0-9]*.{suffix}")]

    def _new_path(self, suffix: str) -> Path:
        with self._numbering:
            path = self.folder / f"{self._next_number:08d}.{suffix}"
            self._next_number += 1
            return path


def _number(path: Path) -> int:
    return int(path.stem)


def _isin(numbers: Int64, among: Int64) -> npt.NDArray[np.bool_]:
    """Which of `numbers` are in `among`; both ascend."""
    if not len(among) or not len(numbers):
        return np.zeros(len(numbers), np.bool_)
    start = int(np.searchsorted(among, numbers[0]))
    if np.array_equal(among[start : start + len(numbers)], numbers):
        return np.ones(len(numbers), np.bool_)
    places = np.minimum(np.searchsorted(among, numbers), len(among) - 1)
    found: npt.NDArray[np.bool_] = among[places] == numbers
    return found
