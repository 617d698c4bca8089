"""Images in a folder: <folder>/ab/cd/<sha256>, and <folder>/removed/<sha256>.<unique> for what is set aside."""

import contextlib
import errno
import shutil
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path

from sfsc_bundle.atomic_file import sync, write_files
from sfsc_service.store.fault import StoreFault
from sfsc_service.store.milvus.image_place import digest_in

__all__ = ["FolderImages"]


class FolderImages:
    """Implements ImagePlace; makes the folder. Raises OSError where it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._temporary, self._removed = folder / "temporary", folder / "removed"
        for path in (self._temporary, self._removed):
            path.mkdir(parents=True, exist_ok=True)
        sync([folder.parent, folder])

    def write(self, contents: Mapping[str, bytes]) -> None:
        missing = {self._path(digest): data for digest, data in contents.items() if not self._has(digest, data)}
        if missing and not self._temporary.is_dir():  # such as a file system that is no longer mounted
            raise FileNotFoundError(errno.ENOENT, "the folder of images is gone", str(self._folder))
        for path in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_files(missing, self._temporary)
        # Also the folders of files that were there before: whoever wrote them may not have synced the names yet.
        sync({folder for digest in contents for folder in list(self._path(digest).parents)[:3]})

    def read(self, digest: str) -> bytes:
        return self._path(digest).read_bytes()

    def set_aside(self, digests: Collection[str]) -> None:
        for digest in digests:
            _move(self._path(digest), self._removed / f"{digest}.{uuid.uuid4().hex}")

    def names_aside(self, digest: str | None = None) -> list[str]:
        return [path.name for path in self._removed.glob("*" if digest is None else f"{digest}*")]

    def read_aside(self, name: str) -> bytes:
        return (self._removed / name).read_bytes()

    def put_back(self, names: Collection[str]) -> None:
        for name in names:
            _move(self._removed / name, self._path(digest_in(name)))

    def delete(self, names: Collection[str]) -> None:
        for name in names:
            (self._removed / name).unlink(missing_ok=True)

    def fault(self) -> StoreFault | None:
        return None if self._folder.is_dir() else StoreFault("folder_gone", "the folder of the images is gone")

    @property
    def free_bytes(self) -> float:
        return shutil.disk_usage(self._folder).free

    def close(self) -> None:
        pass

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:4] / digest

    def _has(self, digest: str, data: bytes) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self._path(digest).read_bytes() == data
        return False


def _move(path: Path, to: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        to.parent.mkdir(parents=True, exist_ok=True)
        path.replace(to)
        sync([to.parent, path.parent])
