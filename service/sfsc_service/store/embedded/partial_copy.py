"""A folder that is being made beside the place where it will be: `.NAME.XXXXXXXX.partial`.

Invariants:
- Each has a name of its own and is locked while it is being made: two at once, of two processes even, never write
  into each other's files.
- What a kill has left is locked by nobody. The next one in the same parent folder deletes it, whatever its name.
- A file system without locks keeps leftovers; nothing else is lost.
"""

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sfsc_service.store.embedded.opening import DATABASE, IMAGES, SEGMENTS
from sfsc_service.store.errors import OpenRefusedError, StoreFailedError

__all__ = ["check_target", "partial_copy"]

_ATTEMPTS = 20


def check_target(target: Path) -> None:
    """Raises OpenRefusedError where a copy would have to overwrite something."""
    if target.is_symlink() and not target.exists():
        raise OpenRefusedError(f"target: must be a new or an empty folder; {target} is a link to nothing")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OpenRefusedError(f"target: must be a new or an empty folder; {target} is there and is not empty")


@contextmanager
def partial_copy(target: Path) -> Iterator[Path]:
    """A new and empty folder beside `target`, which is to be renamed to it; what is left at the end is deleted.

    Raises:
        OSError: it cannot be made.
        StoreFailedError: others delete it again and again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _delete_abandoned(target.parent)
    staged, descriptor = _locked_folder(target)
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        os.close(descriptor)


def _locked_folder(target: Path) -> tuple[Path, int]:
    for _ in range(_ATTEMPTS):
        staged = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
        staged.mkdir()
        descriptor = _opened(staged)
        try:
            if descriptor is not None and _is_locked(staged, descriptor):
                return staged, descriptor
        except OSError:  # it has no locks, so that nobody can take this for abandoned
            assert descriptor is not None
            return staged, descriptor
        # Before it was locked, somebody else took it for abandoned.
        if descriptor is not None:
            os.close(descriptor)
    raise StoreFailedError(f"unfinished copies in {target.parent} are deleted again and again; try again")


def _delete_abandoned(parent: Path) -> None:
    for path in parent.glob(".*.partial"):
        if not _may_be_copy(path) or (descriptor := _opened(path)) is None:
            continue
        try:
            if _is_locked(path, descriptor):
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(descriptor)


def _may_be_copy(path: Path) -> bool:
    """Whether it looks like the beginning of a copy, and not like somebody else's folder."""
    try:
        names = {entry.name for entry in path.iterdir()} if path.is_dir() and not path.is_symlink() else {"file"}
    except OSError:
        return False
    return not names or bool(names & {IMAGES, SEGMENTS, DATABASE})


def _opened(folder: Path) -> int | None:
    with contextlib.suppress(OSError):
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    return None


def _is_locked(folder: Path, descriptor: int) -> bool:
    """Lock a folder; false where another one has it, or has renamed or deleted it. Raises OSError: no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    return False
