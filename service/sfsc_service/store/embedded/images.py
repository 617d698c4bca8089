"""Images: content-addressed files, <folder>/ab/cd/<sha256>.

Invariants:
- `hold` returns when the files and their names are durable, so a record that is committed afterwards never names a
  missing image.
- A file is removed only while nobody holds its digest and no record names it; both are looked at under the lock
  that `hold` needs, and a holder lets go only after its record is committed or has failed.
"""

import hashlib
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sfsc_bundle.atomic_file import sync, write_files
from sfsc_service.store.errors import StoreFailedError

__all__ = ["ImageFolder", "digest_of"]

_log = logging.getLogger(__name__)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class ImageFolder:
    """`named` tells whether the committed record names a digest."""

    def __init__(self, folder: Path, named: Callable[[str], bool]) -> None:
        self._folder = folder
        self._temporary = folder / "temporary"
        self._temporary.mkdir(parents=True, exist_ok=True)
        self._named = named
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        sync([folder.parent])

    def hold(self, contents: Mapping[str, bytes]) -> None:
        """Store images, by digest, and keep them from removal until `release`."""
        with self._lock:
            self._held.update(contents.keys())
        try:
            self._store(contents)
        except BaseException:
            self.release(contents)
            self.discard(contents)
            raise

    def release(self, digests: Iterable[str]) -> None:
        with self._lock:
            for digest in digests:
                self._held[digest] -= 1
                if self._held[digest] <= 0:
                    del self._held[digest]

    def discard(self, digests: Iterable[str]) -> None:
        """Remove those that nobody holds and nothing names; what cannot be removed now waits for a sweep."""
        for digest in digests:
            try:
                with self._lock:
                    if digest not in self._held and not self._named(digest):
                        self._path(digest).unlink(missing_ok=True)
            except (OSError, sqlite3.Error) as error:
                _log.warning("an orphaned image could not be removed: %s", error)

    def sweep(self) -> None:
        """Remove what a crash left behind: unfinished files and images that no record names."""
        for path in self._temporary.iterdir():
            path.unlink()
        self.discard(path.name for path in self._folder.glob("??/??/*"))

    def read(self, digest: str) -> bytes:
        """The content.

        Raises:
            FileNotFoundError: it was removed, which happens between looking up a digest and reading it.
            StoreFailedError: the file is not what was stored.
        """
        data = self._path(digest).read_bytes()
        if digest_of(data) != digest:
            raise StoreFailedError(f"image: {self._path(digest)} must match its name; found it damaged")
        return data

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:4] / digest

    def _store(self, contents: Mapping[str, bytes]) -> None:
        missing = {
            self._path(digest): data for digest, data in contents.items() if not self._has(digest, contents)
        }
        for path in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_files(missing, self._temporary)
        # Of files that were there before, too: whoever put them there may not have come so far.
        sync({folder for digest in contents for folder in self._folders(digest)})

    def _has(self, digest: str, contents: Mapping[str, bytes]) -> bool:
        path = self._path(digest)
        return path.exists() and path.read_bytes() == contents[digest]

    def _folders(self, digest: str) -> list[Path]:
        """From the one that holds the image up to the root."""
        return list(self._path(digest).parents)[:3]
