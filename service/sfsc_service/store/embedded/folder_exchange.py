"""Two folders change their places in one step: at no moment, and after no crash, a name is without a folder.

That is renameat2 of Linux with RENAME_EXCHANGE, which Python does not offer.
"""

import ctypes
import errno
import os
import uuid
from pathlib import Path

from sfsc_bundle.atomic_file import sync

__all__ = ["can_exchange", "exchange"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def exchange(one: Path, other: Path) -> None:
    """Give each folder the other one's name, durably. Raises OSError: they are as they were, or have changed."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(one))
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))
    sync({one.parent, other.parent})


def can_exchange(parent: Path) -> bool:
    """Try it with two empty folders in `parent`."""
    pair = [parent / f".exchange-{uuid.uuid4().hex}" for _ in range(2)]
    try:
        for folder in pair:
            folder.mkdir()
        exchange(*pair)
    except OSError:
        return False
    finally:
        for folder in pair:
            if folder.exists():
                folder.rmdir()
    return True
