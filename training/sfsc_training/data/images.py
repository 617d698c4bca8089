"""The images of a split, decoded once by the bundle's preprocessing and kept in memory."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfsc_bundle.errors import ImageError
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from sfsc_training.config import DataSection
from sfsc_training.data.reader import Split
from sfsc_training.errors import DataError

__all__ = ["load_images", "load_split"]


def load_images(
    paths: Sequence[Path], section: DataSection, advance: Callable[[], None] | None = None, *, threads: int = 2
) -> npt.NDArray[np.uint8]:
    """Decode images to uint8 [n, H, W, 3].

    Args:
        advance: called after each image.

    Raises:
        DataError: some images cannot be read (the message counts them and names the first), or the decoded images
            would take more memory than data.max_cache_gib.
    """
    images, failed = _load(paths, section, advance, threads)
    if failed:
        raise _unreadable(failed, len(paths))
    return images


def load_split(
    split: Split, section: DataSection, advance: Callable[[], None] | None = None, *, threads: int = 2
) -> tuple[Split, npt.NDArray[np.uint8]]:
    """A split and its decoded images; with data.skip_unreadable, both without the images that cannot be read.

    Raises:
        DataError: as `load_images`, or an identity has no readable image.
    """
    images, failed = _load(split.paths, section, advance, threads)
    if not failed:
        return split, images
    if not section.skip_unreadable:
        raise _unreadable(failed, len(split.paths))
    kept = np.array([place for place in range(len(images)) if place not in failed], dtype=np.int64)
    remaining = split.take(kept)
    lost = set(range(len(split.identities))) - set(remaining.classes.tolist())
    if lost:
        raise DataError(f"identity {split.identities[min(lost)]} has no readable image; remove its folder")
    return remaining, images[kept]


def _load(
    paths: Sequence[Path], section: DataSection, advance: Callable[[], None] | None, threads: int
) -> tuple[npt.NDArray[np.uint8], dict[int, DataError]]:
    shape = (len(paths), section.height, section.width, 3)
    gib = float(np.prod(shape, dtype=np.float64)) / 2**30
    if gib > section.max_cache_gib:
        raise DataError(
            f"data.max_cache_gib is {section.max_cache_gib}, but the decoded images take {gib:.1f} GiB"
        )
    images = np.empty(shape, dtype=np.uint8)
    failed: dict[int, DataError] = {}
    preprocessing = Preprocessing(height=section.height, width=section.width)

    def decode(number: int) -> None:
        try:
            images[number] = _decode(paths[number], preprocessing)
        except DataError as error:
            failed[number] = error
        if advance is not None:
            advance()

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode, range(len(paths))):
            pass
    return images, failed


def _unreadable(failed: Mapping[int, DataError], count: int) -> DataError:
    rest = f"; {len(failed)} of {count} images cannot be read" if len(failed) > 1 else ""
    return DataError(f"{failed[min(failed)]}{rest} (data.skip_unreadable = true leaves them out)")


def _decode(path: Path, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    try:
        return preprocess(path.read_bytes(), preprocessing)
    except (ImageError, OSError) as error:
        raise DataError(f"image {path} cannot be read: {error}") from error
