"""Images of unknown identity, from where a model will work."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sfsc_bundle.image_formats import SUFFIXES
from sfsc_training.data.dataset import Split, content_digest
from sfsc_training.data.walk import walk
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
    names = tuple(path.as_posix() for path in sorted(walk(folder).images))
    paths = tuple(folder / name for name in names)
    if not paths:
        raise DataError(f"{folder} has no image: no file ends in {', '.join(SUFFIXES)}")
    contents = tuple(content_digest(path) for path in paths)
    apart = {content for split in kept_apart for content in split.contents}
    leaked = [path for path, content in zip(paths, contents, strict=True) if content in apart]
    if leaked:
        raise DataError(
            f"unlabelled images must not be images of the validation or test split, whose figures would no longer "
            f"be honest; found {len(leaked)} of {len(paths)}, such as {leaked[0]}"
        )
    nothing = np.zeros(0, dtype=np.int64)
    return Split(paths, names, contents, np.full(len(paths), -1, dtype=np.int64), (), None, nothing, nothing)
