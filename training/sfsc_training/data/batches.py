"""Training batches, cut into micro-batches with batch statistics of their own.

What a micro-batch holds depends on (seed, step, number) only: it is the same after a resume and in any process.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from sfsc_training.data.augmentation import GrowingAugmentation
from sfsc_training.data.images import Images
from sfsc_training.data.sampling import Sampler
from sfsc_training.errors import DataError

__all__ = ["Batches", "MicroBatch"]

MicroBatch = tuple[Tensor, Tensor]  # images uint8 [b, 3, H, W], classes int64 [b]


class Batches(IterableDataset[list[MicroBatch] | DataError]):
    """The batches of the steps start … stop − 1, each a list of micro-batches.

    Args:
        pixels: all images, uint8 [n, H, W, 3].
        classes: int64 [n].
        micro_batches: how many equal parts a batch is cut into.
        mine: numbers of those that this process computes; None: all.
    """

    def __init__(
        self,
        pixels: Images,
        classes: npt.NDArray[np.int64],
        augmentation: GrowingAugmentation,
        sampler: Sampler,
        *,
        seed: int,
        start: int,
        stop: int,
        micro_batches: int = 1,
        mine: Sequence[int] | None = None,
    ) -> None:
        self._pixels, self._classes = pixels, classes
        self._augmentation, self._sampler = augmentation, sampler
        self._seed, self._steps = seed, range(start, stop)
        self._count, self._mine = micro_batches, range(micro_batches) if mine is None else mine

    def batch(self, step: int) -> list[MicroBatch]:
        """The augmented micro-batches of one step. Raises DataError where the batch cannot be cut evenly."""
        rows = self._sampler.rows(step)
        if len(rows) % self._count:
            raise DataError(f"a batch of {len(rows)} images cannot be cut into {self._count} equal micro-batches")
        pieces = np.split(rows, self._count)
        return [self._micro_batch(step, number, pieces[number]) for number in self._mine]

    def _micro_batch(self, step: int, number: int, rows: npt.NDArray[np.int64]) -> MicroBatch:
        images = torch.from_numpy(np.ascontiguousarray(self._pixels[rows].transpose(0, 3, 1, 2)))
        key = [self._seed, 2, step, number] if number else [self._seed, 2, step]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.default_rng(key).integers(2**62)))
            images = self._augmentation.at(step)(images)
        return images, torch.from_numpy(self._classes[rows])

    def __len__(self) -> int:
        """The number of steps."""
        return len(self._steps)

    @property
    def nbytes(self) -> int:
        """The size of one batch of this process, in bytes."""
        _, height, width, channels = self._pixels.shape
        images = len(self._sampler.rows(self._steps[0])) // self._count * len(self._mine)
        return int(images * (height * width * channels + self._classes.itemsize))

    def __iter__(self) -> Iterator[list[MicroBatch] | DataError]:
        """The batches; in the place of one with an image that can no longer be read, the error, and then no more.

        torch would wrap what a worker process raises into pages of traceback.
        """
        worker = get_worker_info()
        first, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in self._steps[first::stride]:
            try:
                yield self.batch(step)
            except DataError as error:
                yield error
                return
