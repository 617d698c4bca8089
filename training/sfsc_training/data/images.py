"""The images of a split, decoded once by the bundle's preprocessing and kept in memory."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfsc_bundle.errors import ImageError
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from sfsc_training.config import DataSection
from sfsc_training.data.dataset import Split
from sfsc_training.errors import DataError

__all__ = ["Pixels", "decode_each", "load_all", "load_images", "load_split", "others", "unreadable"]

Pixels = npt.NDArray[np.uint8]


def load_images(
    paths: Sequence[Path], section: DataSection, advance: Callable[[], None] | None = None, *, threads: int = 2
) -> Pixels:
    """Decode images to uint8 [n, H, W, 3].

    Args:
        advance: called after each image.

    Raises:
        DataError: some images cannot be read (the message counts them and names the first), or the decoded images
            would take more memory than data.max_cache_gib.
    """
    images, failed = load_all(paths, section, advance, threads)
    if failed:
        raise unreadable(list(failed.values()), len(paths))
    return images


def load_split(
    split: Split, section: DataSection, advance: Callable[[], None] | None = None, *, threads: int = 2
) -> tuple[Split, Pixels]:
    """A split and its decoded images; with data.skip_unreadable, both without the images that cannot be read.

    Raises:
        DataError: as `load_images`, or no image is left.
    """
    images, failed = load_all(split.paths, section, advance, threads)
    if not failed:
        return split, images
    kept = others(len(images), failed)
    if not (section.skip_unreadable and len(kept)):
        raise unreadable(list(failed.values()), len(split.paths))
    return split.take(kept), images[kept]


def load_all(
    paths: Sequence[Path], section: DataSection, advance: Callable[[], None] | None, threads: int
) -> tuple[Pixels, dict[int, DataError]]:
    """Decode images to uint8 [n, H, W, 3], and what is wrong with those that cannot be decoded, by position.

    Raises:
        DataError: the decoded images would take more memory than data.max_cache_gib.
    """
    shape = (len(paths), section.height, section.width, 3)
    gib = float(np.prod(shape, dtype=np.float64)) / 2**30
    if gib > section.max_cache_gib:
        raise DataError(
            f"data.max_cache_gib is {section.max_cache_gib}, but the decoded images take {gib:.1f} GiB"
        )
    images = np.empty(shape, dtype=np.uint8)

    def keep(number: int, pixels: Pixels) -> None:
        images[number] = pixels

    return images, decode_each(paths, section, keep, advance, threads)


def decode_each(
    paths: Sequence[Path],
    section: DataSection,
    keep: Callable[[int, Pixels], None] | None,
    advance: Callable[[], None] | None,
    threads: int,
) -> dict[int, DataError]:
    """Decode images; returns what is wrong with those that cannot be decoded, by position, ascending.

    Args:
        keep: takes the position and the pixels of every image; None: they are forgotten.
    """
    preprocessing = Preprocessing(height=section.height, width=section.width)
    failed: dict[int, DataError] = {}

    def decode(number: int) -> None:
        try:
            pixels = _decode(paths[number], preprocessing)
            if keep is not None:
                keep(number, pixels)
        except DataError as error:
            failed[number] = error
        if advance is not None:
            advance()

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode, range(len(paths))):
            pass
    return dict(sorted(failed.items()))


def others(count: int, failed: Collection[int]) -> npt.NDArray[np.int64]:
    """The positions of `count` images that are not among the failed ones, int64, ascending."""
    return np.array([place for place in range(count) if place not in failed], dtype=np.int64)


def unreadable(failed: Sequence[DataError], count: int) -> DataError:
    """The error of a set of `count` images of which some cannot be read."""
    rest = f"; {len(failed)} of {count} images cannot be read" if len(failed) > 1 else ""
    return DataError(f"{failed[0]}{rest} (data.skip_unreadable = true leaves them out)")


def _decode(path: Path, preprocessing: Preprocessing) -> Pixels:
    try:
        return preprocess(path.read_bytes(), preprocessing)
    except (ImageError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
