"""Images: content-addressed files, <folder>/ab/cd/<sha256>.

Invariants:
- `pin` returns when the files and their names are durable, so an item that is committed afterwards never refers to
  a missing image.
- A file is deleted only while its digest is not pinned and no item refers to it; both are checked under the lock
  that `pin` needs, and a digest is unpinned only after its item is committed or has failed.
"""

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sfsc_bundle.atomic_file import sync, write_files
from sfsc_service.store.embedded.sqlite.schema import DatabaseError
from sfsc_service.store.errors import StoreFailedError

__all__ = ["GONE", "ImageFolder", "digest_of"]

GONE = "the data folder is gone, or another one is there; put back what was there, or restart the service"

_log = logging.getLogger(__name__)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class ImageFolder:
    """`is_used` tells whether a committed item refers to a digest."""

    def __init__(self, folder: Path, is_used: Callable[[str], bool]) -> None:
        self._folder = folder
        self._temporary = folder / "temporary"
        self._temporary.mkdir(parents=True, exist_ok=True)
        self._is_used = is_used
        self._pins: Counter[str] = Counter()
        self._lock = threading.Lock()
        sync([folder.parent])

    def pin(self, contents: Mapping[str, bytes]) -> None:
        """Store images, by digest, and protect them from deletion until `unpin`."""
        with self._lock:
            self._pins.update(contents.keys())
        try:
            self._store(contents)
        except BaseException:
            self.unpin(contents)
            self.delete_unused(contents)
            raise

    def unpin(self, digests: Iterable[str]) -> None:
        with self._lock:
            for digest in digests:
                self._pins[digest] -= 1
                if self._pins[digest] <= 0:
                    del self._pins[digest]

    def delete_unused(self, digests: Iterable[str]) -> None:
        """Delete those that are neither pinned nor used; a file that cannot be deleted now stays as a leftover."""
        for digest in digests:
            try:
                with self._lock:
                    if digest not in self._pins and not self._is_used(digest):
                        self._path(digest).unlink(missing_ok=True)
            except (OSError, DatabaseError) as error:
                _log.warning("the unused image %s could not be deleted: %s", digest, error)

    def delete_unfinished(self) -> None:
        """Delete the unfinished files that a crash left behind; before the first `pin`."""
        for path in self._temporary.iterdir():
            path.unlink()

    def delete_leftovers(self, stop: Callable[[], bool]) -> bool:
        """Delete images that no item refers to, until `stop`; whether all were seen."""
        for path in self._folder.glob("??/??/*"):
            if stop():
                return False
            self.delete_unused([path.name])
        return True

    def set_unused_aside(self) -> int:
        """Move the images that no item refers to into `quarantine`; how many. Before the first `pin`.

        Raises:
            OSError, DatabaseError: one cannot be moved.
        """
        unused = [path for path in self._folder.glob("??/??/*") if not self._is_used(path.name)]
        if unused:
            quarantine = self._folder / "quarantine"
            quarantine.mkdir(exist_ok=True)
            for path in unused:
                path.rename(quarantine / path.name)
            sync([quarantine])
        return len(unused)

    def read(self, digest: str) -> bytes:
        """The content.

        Raises:
            FileNotFoundError: it was deleted, which may happen between looking up a digest and reading its file.
            StoreFailedError: the file is damaged.
        """
        data = self._path(digest).read_bytes()
        if digest_of(data) != digest:
            raise StoreFailedError(f"the image {digest} is damaged: its content does not match its digest")
        return data

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:4] / digest

    def _store(self, contents: Mapping[str, bytes]) -> None:
        missing = {
            self._path(digest): data for digest, data in contents.items() if not self._has(digest, contents)
        }
        if missing and not self._temporary.is_dir():  # making it again would hide that the data is elsewhere
            raise StoreFailedError(GONE)
        for path in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_files(missing, self._temporary)
        # Also the folders of files that were there before: whoever wrote them may not have synced the names yet.
        sync({folder for digest in contents for folder in self._folders(digest)})

    def _has(self, digest: str, contents: Mapping[str, bytes]) -> bool:
        path = self._path(digest)
        return path.exists() and path.read_bytes() == contents[digest]

    def _folders(self, digest: str) -> list[Path]:
        """From the one that contains the image up to the root."""
        return list(self._path(digest).parents)[:3]
