"""One process at a time writes a run folder: two would overwrite each other's checkpoints.

The lock is the operating system's and ends with the process that holds it, however that ends. Processes that it
has forked do not hold it, so what is left of a killed training does not keep the next one out.
"""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sfsc_training.errors import CheckpointError

__all__ = ["LOCK", "locked"]

LOCK = ".lock"
_TAKEN = (errno.EACCES, errno.EAGAIN)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is made where it is missing.

    Raises:
        CheckpointError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                raise CheckpointError(
                    f"another process trains in {folder}; wait for it, end it, or give another --out"
                ) from error
            # Some network file systems have no locks; a training there goes without.
        yield
