"""What a file needs before it may be relied on after a power cut."""

import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["sync"]

_AT_ONCE = 8


def sync(paths: Collection[Path]) -> None:
    """Make the content of files, and of folders the names in them, durable.

    Side by side, because file systems commit what waits for them together: ten times as fast as one by one.
    """
    if len(paths) == 1:
        _sync(*paths)
    elif paths:
        with ThreadPoolExecutor(min(_AT_ONCE, len(paths))) as pool:
            list(pool.map(_sync, paths))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
