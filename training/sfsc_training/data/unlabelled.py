"""Images of unknown identity, from where a model will work."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sfsc_bundle.image_formats import SUFFIXES
from sfsc_training.data.reader import Split
from sfsc_training.errors import DataError

__all__ = ["read_unlabelled"]


def read_unlabelled(folder: Path, kept_apart: Sequence[Split]) -> Split:
    """All images below a folder, whatever its sub-folders are named; their class is −1. None is decoded.

    Args:
        kept_apart: splits that figures are taken from; none of their images may be in the folder.

    Raises:
        DataError: there is no such folder, it holds no image, or it holds one of the images kept apart: the same
            file content under any name.
    """
    if not folder.is_dir():
        raise DataError(f"folder of unlabelled images {folder} does not exist")
    paths = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()))
    if not paths:
        raise DataError(f"{folder} has no image: no file ends in {', '.join(SUFFIXES)}")
    apart = {_digest(path) for split in kept_apart for path in split.paths}
    leaked = [path for path in paths if _digest(path) in apart]
    if leaked:
        raise DataError(
            f"unlabelled images must not be images of the validation or test split, whose figures would no longer "
            f"be honest; found {len(leaked)} of {len(paths)}, such as {leaked[0]}"
        )
    nothing = np.zeros(0, dtype=np.int64)
    names = tuple(path.relative_to(folder).as_posix() for path in paths)
    return Split(paths, names, np.full(len(paths), -1, dtype=np.int64), (), None, nothing, nothing)


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error}") from error
