"""Images in a folder that all processes of a gallery share: content-addressed files, <folder>/ab/cd/<sha256>.

Invariants:
- `store` returns when the files and their names are durable, so an item that is written afterwards never refers to
  a missing image.
- An image that no item seems to refer to is first set aside, in <folder>/removed, where it can still be read. It
  is deleted `GRACE_S` later unless an item refers to it by then: every change that had found the file in place,
  and so did not write it, has ended.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sfsc_bundle.atomic_file import sync, write_files
from sfsc_service.store.errors import StoreFailedError

__all__ = ["GRACE_S", "SharedImages", "digest_of"]

GRACE_S = 120.0
"""Seconds; more than a change of the gallery may take."""


def _age_s(path: Path) -> float:
    """Seconds since a file was set aside; 0 if another process has just moved it."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def digest_of(data: bytes) -> str:
    """The sha256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


class SharedImages:
    """`used` tells which of some digests an item refers to. Raises OSError where the folder cannot be used."""

    def __init__(self, folder: Path, used: Callable[[list[str]], set[str]]) -> None:
        self.folder = folder
        self._used = used
        self._temporary, self._removed = folder / "temporary", folder / "removed"
        for path in (self._temporary, self._removed):
            path.mkdir(parents=True, exist_ok=True)
        sync([folder.parent, folder])

    def store(self, contents: Mapping[str, bytes]) -> None:
        """Keep images, by digest."""
        missing = {self._path(digest): data for digest, data in contents.items() if not self._has(digest, data)}
        for path in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_files(missing, self._temporary)
        # Also the folders of files that were there before: whoever wrote them may not have synced the names yet.
        sync({folder for digest in contents for folder in list(self._path(digest).parents)[:3]})

    def read(self, digest: str) -> bytes:
        """The content.

        Raises:
            FileNotFoundError: it was deleted, which may happen between looking up a digest and reading its file.
            StoreFailedError: the file is damaged.
        """
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError:
            data = (self._removed / digest).read_bytes()
        if digest_of(data) != digest:
            raise StoreFailedError(f"the image {digest} is damaged: its content does not match its digest")
        return data

    def set_aside_unused(self, digests: Iterable[str]) -> None:
        """Set aside those that no item refers to. Raises OSError, and what `used` raises."""
        for digest in set(digests) - self._used(list(digests)):
            self._move(self._path(digest), self._removed / digest)

    def delete_set_aside(self) -> None:
        """Delete what was set aside for long enough, and put back what an item refers to. Raises as above."""
        old = [path for path in self._removed.iterdir() if _age_s(path) > GRACE_S]
        used = self._used([path.name for path in old])
        for path in old:
            if path.name in used:
                self._move(path, self._path(path.name))
            else:
                path.unlink(missing_ok=True)

    def _move(self, path: Path, to: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
            to.parent.mkdir(parents=True, exist_ok=True)
            path.replace(to)
            sync([to.parent, path.parent])

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest[2:4] / digest

    def _has(self, digest: str, data: bytes) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self._path(digest).read_bytes() == data
        return False
