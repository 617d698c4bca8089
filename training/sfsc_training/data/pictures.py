"""All pictures of a split, decoded once by the bundle's preprocessing and kept in memory."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfsc_bundle.errors import ImageError
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from sfsc_training.config import DataSection
from sfsc_training.errors import DataError

__all__ = ["load_pictures"]


def load_pictures(
    paths: Sequence[Path], section: DataSection, advance: Callable[[], None] | None = None, *, threads: int = 2
) -> npt.NDArray[np.uint8]:
    """Decode pictures to uint8 [n, H, W, 3].

    Args:
        advance: called once a picture, for a progress bar.

    Raises:
        DataError: one cannot be read (the message names it), or all together exceed data.max_cache_gib.
    """
    shape = (len(paths), section.height, section.width, 3)
    gib = float(np.prod(shape, dtype=np.float64)) / 2**30
    if gib > section.max_cache_gib:
        raise DataError(f"data.max_cache_gib is {section.max_cache_gib}, the decoded pictures take {gib:.1f} GiB")
    pictures = np.empty(shape, dtype=np.uint8)
    preprocessing = Preprocessing(height=section.height, width=section.width)

    def decode(number: int) -> None:
        pictures[number] = _decode(paths[number], preprocessing)
        if advance is not None:
            advance()

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode, range(len(paths))):
            pass
    return pictures


def _decode(path: Path, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    try:
        return preprocess(path.read_bytes(), preprocessing)
    except (ImageError, OSError) as error:
        raise DataError(f"picture {path} cannot be read: {error}") from error
