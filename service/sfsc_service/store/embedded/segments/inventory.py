"""Which vectors the files of a folder hold, read without changing anything; the store may have the folder open."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.segments.log import read_log
from sfsc_service.store.embedded.segments.segment import SegmentDamagedError, open_segment

__all__ = ["Inventory", "take_inventory"]


class Inventory(NamedTuple):
    """`sequences`: of the vectors that are as they were written, ascending. `damaged`: what is not."""

    files: int
    sequences: Int64
    damaged: list[str]


def take_inventory(
    folder: Path,
    dimension: int,
    gallery: int,
    last_sequence: int,
    look: Callable[[], None] = lambda: None,
) -> Inventory:
    """Read every file of vectors; `last_sequence`: of the newest committed change.

    Args:
        look: called before each file; may raise.

    Raises:
        FolderMismatchError: a file belongs to another gallery.
        OSError: a file cannot be read.
    """
    found, damaged = [np.empty(0, np.int64)], list[str]()
    logs, segments = sorted(folder.glob("[0-9]*.log")), sorted(folder.glob("[0-9]*.segment"))
    for path in logs:
        look()
        log = read_log(path, dimension, gallery, last_sequence)
        found.append(log.sequences)
        if log.damaged:
            damaged.append(f"{path.name} is damaged before its last block")
    for path in segments:
        look()
        try:
            segment = open_segment(path, dimension, gallery)
        except SegmentDamagedError as error:
            damaged.append(f"{path.name} cannot be used: {error}")
            continue
        found.append(segment.sequences[segment.whole])
        if count := np.count_nonzero(~segment.whole):
            damaged.append(f"{path.name} is damaged in {count} of its {len(segment.whole)} rows")
    return Inventory(len(logs) + len(segments), np.unique(np.concatenate(found)), damaged)
