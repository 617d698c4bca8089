"""Training batches, in parts: each part has batch statistics of its own, in this process or in another one.

What a part holds depends on (seed, step, part) alone, so neither a new start nor another number of processes
changes it.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sfsc_training.data.augmentation import Augmentation
from sfsc_training.data.sampling import Sampler
from sfsc_training.errors import DataError

__all__ = ["Batches", "Part", "make_loader"]

Part = tuple[Tensor, Tensor]


class Batches(IterableDataset[list[Part]]):
    """Batches of steps `start` … `stop`−1, each a list of parts: uint8 [b, 3, H, W] and classes int64 [b].

    Args:
        parts: into how many parts the rows of a step are cut.
        mine: which of them this process takes; None: all.
    """

    def __init__(
        self,
        pixels: npt.NDArray[np.uint8],
        classes: npt.NDArray[np.int64],
        augmentation: Augmentation,
        sampler: Sampler,
        *,
        seed: int,
        start: int,
        stop: int,
        parts: int = 1,
        mine: Sequence[int] | None = None,
    ) -> None:
        self._pixels, self._classes = pixels, classes
        self._augmentation, self._sampler = augmentation, sampler
        self._seed, self._steps = seed, range(start, stop)
        self._parts, self._mine = parts, range(parts) if mine is None else mine

    def batch(self, step: int) -> list[Part]:
        """The augmented parts of one step. Raises DataError where the rows cannot be cut into equal parts."""
        rows = self._sampler.rows(step)
        if len(rows) % self._parts:
            raise DataError(f"a batch of {len(rows)} images cannot be cut into {self._parts} equal parts")
        pieces = np.split(rows, self._parts)
        return [self._part(step, number, pieces[number]) for number in self._mine]

    def _part(self, step: int, number: int, rows: npt.NDArray[np.int64]) -> Part:
        images = torch.from_numpy(np.ascontiguousarray(self._pixels[rows].transpose(0, 3, 1, 2)))
        key = [self._seed, 2, step, number] if number else [self._seed, 2, step]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.default_rng(key).integers(2**62)))
            images = self._augmentation(images)
        return images, torch.from_numpy(self._classes[rows])

    def __iter__(self) -> Iterator[list[Part]]:
        worker = get_worker_info()
        first, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in self._steps[first::stride]:
            yield self.batch(step)


def make_loader(batches: Batches, workers: int) -> DataLoader[list[Part]]:
    """Steps in order, prepared ahead by so many processes (0: in this one)."""
    return DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
