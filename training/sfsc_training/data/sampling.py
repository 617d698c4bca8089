"""Which images make the batch of a step: a function of (seed, step) only, so a run can resume at any step."""

from typing import Protocol, assert_never

import numpy as np
import numpy.typing as npt

from sfsc_training.config import SamplerSection
from sfsc_training.errors import DataError

__all__ = ["Identities", "Sampler", "Shuffle", "make_sampler", "sampling_unit"]

Ints = npt.NDArray[np.int64]


class Sampler(Protocol):
    """`rows(step)`: positions of the images in the batch of a step, int64 [size]."""

    def rows(self, step: int) -> Ints: ...


class Shuffle:
    """Every epoch is a new permutation of all images; an incomplete batch at its end is dropped."""

    def __init__(self, count: int, size: int, seed: int) -> None:
        self._count, self._size, self._seed = count, size, seed
        self._per_epoch = max(1, count // size)

    def rows(self, step: int) -> Ints:
        epoch, place = divmod(step, self._per_epoch)
        order = np.random.default_rng([self._seed, 1, epoch]).permutation(self._count)
        return order[place * self._size : (place + 1) * self._size]


class Identities:
    """P identities × K images, the images of one identity next to each other.

    Every epoch is a new permutation of the identities; an identity with fewer than K images repeats them.
    """

    def __init__(self, classes: Ints, size: int, images: int, seed: int) -> None:
        order = np.argsort(classes, kind="stable")
        self._rows_by_identity = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)
        self._count, self._images, self._seed = size // images, images, seed
        if self._count > len(self._rows_by_identity):
            raise DataError(
                f"a batch of {size} with sampler.images = {images} needs {self._count} identities; "
                f"found {len(self._rows_by_identity)}"
            )
        self._per_epoch = len(self._rows_by_identity) // self._count

    def rows(self, step: int) -> Ints:
        epoch, place = divmod(step, self._per_epoch)
        order = np.random.default_rng([self._seed, 3, epoch]).permutation(len(self._rows_by_identity))
        random = np.random.default_rng([self._seed, 4, step])
        chosen = order[place * self._count : (place + 1) * self._count]
        return np.concatenate([self._draw(self._rows_by_identity[identity], random) for identity in chosen])

    def _draw(self, rows: Ints, random: np.random.Generator) -> Ints:
        rounds = [random.permutation(rows) for _ in range(-(-self._images // len(rows)))]
        return np.concatenate(rounds)[: self._images]


def make_sampler(section: SamplerSection, classes: Ints, size: int, seed: int) -> Sampler:
    """The sampler of a recipe. Raises DataError where the split has too few identities for a batch."""
    match section.kind:
        case "shuffle":
            return Shuffle(len(classes), size, seed)
        case "identities":
            return Identities(classes, size, section.images, seed)
        case _:
            assert_never(section.kind)


def sampling_unit(section: SamplerSection) -> int:
    """The number of images that a batch must be a multiple of."""
    match section.kind:
        case "shuffle":
            return 1
        case "identities":
            return section.images
        case _:
            assert_never(section.kind)
