"""Training batches. What a batch holds depends on (seed, step) alone, so a run can go on from any step."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sfsc_training.data.augmentation import Augmentation

__all__ = ["Batches", "make_loader"]

Batch = tuple[Tensor, Tensor]


class Batches(IterableDataset[Batch]):
    """Batches of steps `start` … `stop`−1: uint8 [b, 3, H, W] and classes int64 [b].

    Every epoch is a new permutation; what is left over at its end is dropped.
    """

    def __init__(
        self,
        pictures: npt.NDArray[np.uint8],
        classes: npt.NDArray[np.int64],
        augmentation: Augmentation,
        *,
        size: int,
        seed: int,
        start: int,
        stop: int,
    ) -> None:
        self._pictures, self._classes, self._augmentation = pictures, classes, augmentation
        self._size, self._seed, self._steps = size, seed, range(start, stop)
        self.per_epoch = max(1, len(classes) // size)

    def rows(self, step: int) -> npt.NDArray[np.int64]:
        """Positions of the pictures of one step, [b]."""
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng([self._seed, 1, epoch]).permutation(len(self._classes))
        return order[place * self._size : (place + 1) * self._size]

    def batch(self, step: int) -> Batch:
        """The augmented batch of one step."""
        rows = self.rows(step)
        images = torch.from_numpy(np.ascontiguousarray(self._pictures[rows].transpose(0, 3, 1, 2)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.default_rng([self._seed, 2, step]).integers(2**62)))
            images = self._augmentation(images)
        return images, torch.from_numpy(self._classes[rows])

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in self._steps[first::stride]:
            yield self.batch(step)


def make_loader(batches: Batches, workers: int) -> DataLoader[Batch]:
    """Steps in order, prepared ahead by so many processes (0: in this one)."""
    return DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
