"""The images of a split, decoded by the bundle's preprocessing: once, and kept in memory, or each time anew.

What takes more memory than `data.max_cache_gib` when decoded is decoded anew for each batch.
"""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from sfsc_bundle.errors import ImageError
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from sfsc_training.config import DataSection
from sfsc_training.data.dataset import Split
from sfsc_training.data.findings import SKIPPING
from sfsc_training.data.member import ImageFile
from sfsc_training.errors import DataError

__all__ = [
    "Images",
    "OnDemand",
    "Pixels",
    "decode_each",
    "fits",
    "kept_images",
    "load_all",
    "load_images",
    "load_split",
    "others",
    "unreadable",
]

Pixels = npt.NDArray[np.uint8]
_AT_ONCE = 1024  # images that are handed to the threads at a time


class OnDemand:
    """Images that are decoded whenever they are asked for; used as an array uint8 [n, H, W, 3] is.

    Args:
        files: of the n images.
        threads: that decode.
    """

    def __init__(self, files: Sequence[ImageFile], section: DataSection, threads: int = 2) -> None:
        self._files, self._section, self._threads = files, section, threads

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """That of the array which they would make."""
        return _shape(self._files, self._section)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._files)

    def __getitem__(self, rows: npt.NDArray[np.int64] | slice) -> Pixels:
        """Decode some of the images. Raises DataError where one cannot be read."""
        chosen = self._files[rows] if isinstance(rows, slice) else [self._files[row] for row in rows.tolist()]
        images, failed = _decoded(chosen, self._section, None, self._threads)
        for error in failed.values():
            raise error
        return images

    def take(self, kept: npt.NDArray[np.int64]) -> "OnDemand":
        """The images at positions `kept` only; none is decoded."""
        return OnDemand([self._files[row] for row in kept.tolist()], self._section, self._threads)


Images = Pixels | OnDemand


def load_images(
    paths: Sequence[ImageFile],
    section: DataSection,
    advance: Callable[[], None] | None = None,
    *,
    threads: int = 2,
) -> Images:
    """Decode images to uint8 [n, H, W, 3].

    Args:
        advance: called after each image.

    Raises:
        DataError: some images cannot be read; the message counts them and names the first.
    """
    images, failed = load_all(paths, section, advance, threads)
    if failed:
        raise unreadable(list(failed.values()), len(paths))
    return images


def load_split(
    split: Split, section: DataSection, advance: Callable[[], None] | None = None, *, threads: int = 2
) -> tuple[Split, Images]:
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
    return split.take(kept), kept_images(images, kept)


def kept_images(images: Images, kept: npt.NDArray[np.int64]) -> Images:
    """The images at positions `kept` only."""
    return images.take(kept) if isinstance(images, OnDemand) else images[kept]


def load_all(
    paths: Sequence[ImageFile], section: DataSection, advance: Callable[[], None] | None, threads: int
) -> tuple[Images, dict[int, DataError]]:
    """Decode images to uint8 [n, H, W, 3], and what is wrong with those that cannot be decoded, by position.

    Where they take more memory than data.max_cache_gib they are decoded all the same, to find the errors, and
    forgotten: what is returned decodes them anew.
    """
    if not fits(paths, section):
        return OnDemand(paths, section, threads), decode_each(paths, section, None, advance, threads)
    return _decoded(paths, section, advance, threads)


def fits(paths: Sequence[ImageFile], section: DataSection) -> bool:
    """Whether the decoded images may be kept in memory (data.max_cache_gib)."""
    return float(np.prod(_shape(paths, section), dtype=np.float64)) <= section.max_cache_gib * 2**30


def _shape(paths: Sequence[ImageFile], section: DataSection) -> tuple[int, int, int, int]:
    return len(paths), section.height, section.width, 3


def _decoded(
    paths: Sequence[ImageFile], section: DataSection, advance: Callable[[], None] | None, threads: int
) -> tuple[Pixels, dict[int, DataError]]:
    images = np.empty(_shape(paths, section), dtype=np.uint8)

    def keep(number: int, pixels: Pixels) -> None:
        images[number] = pixels

    return images, decode_each(paths, section, keep, advance, threads)


def decode_each(
    paths: Sequence[ImageFile],
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
        # In parts, because what waits in a pool takes more than a kilobyte for each image.
        for start in range(0, len(paths), _AT_ONCE):
            for _ in pool.map(decode, range(start, min(start + _AT_ONCE, len(paths)))):
                pass
    return dict(sorted(failed.items()))


def others(count: int, failed: Collection[int]) -> npt.NDArray[np.int64]:
    """The positions of `count` images that are not among the failed ones, int64, ascending."""
    return np.array([place for place in range(count) if place not in failed], dtype=np.int64)


def unreadable(failed: Sequence[DataError], count: int) -> DataError:
    """The error of a set of `count` images of which some cannot be read."""
    rest = f"; {len(failed)} of {count} images cannot be read" if len(failed) > 1 else ""
    return DataError(f"{failed[0]}{rest} ({SKIPPING})")


def _decode(path: ImageFile, preprocessing: Preprocessing) -> Pixels:
    try:
        return preprocess(path.read_bytes(), preprocessing)
    except (ImageError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
