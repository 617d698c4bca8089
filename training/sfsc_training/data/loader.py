"""Batches prepared ahead by other processes, and what can go wrong with those.

Processes hand batches over in shared memory. Where it runs out, a batch is lost without an error in this process:
so it is measured first, and the batches are counted.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.data import DataLoader

from sfsc_training.data.batches import Batches, MicroBatch
from sfsc_training.errors import DataError, FailedError, TrainingError

__all__ = ["deliver", "explain_lost_workers"]

_AHEAD = 4  # batches that each worker prepares
_PATIENCE_S = 600  # without a batch
_SHARED_MEMORY = Path("/dev/shm")
_ADVICE = "give --workers 0, or more shared memory (docker run --shm-size=1g)"


def deliver(batches: Batches, workers: int) -> Iterator[list[MicroBatch]]:
    """Yield the batches in order of steps, prepared ahead by `workers` processes; 0: in this process.

    Raises:
        DataError: an image can no longer be read.
        TrainingError: there is too little shared memory.
        FailedError: not all batches arrived.
    """
    if not len(batches):
        return
    if workers:
        _check_shared_memory(workers * (_AHEAD + 1) * batches.nbytes)
    ahead = _AHEAD if workers else None
    loader = DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=ahead,
        timeout=_PATIENCE_S if workers else 0,
    )
    arrived = 0
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        arrived += 1
        yield batch
    if arrived < len(batches):
        raise FailedError(
            f"{len(batches) - arrived} of {len(batches)} batches from the worker processes were lost; {_ADVICE}"
        )


@contextmanager
def explain_lost_workers() -> Iterator[None]:
    """Turn what torch raises about a worker process, anywhere in this one, into a FailedError."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader "):
            raise
        what = str(error).splitlines()[0].strip().rstrip(".")
        raise FailedError(
            f"a process that prepares batches has ended or hangs ({what}), perhaps for lack of memory; "
            f"the run can be resumed: {_ADVICE}"
        ) from error


def _check_shared_memory(needed: int) -> None:
    if not _SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if free < needed:
        raise TrainingError(
            f"the worker processes need {needed / 1e6:.1f} MB of shared memory; {_SHARED_MEMORY} has "
            f"{free / 1e6:.1f} MB free: {_ADVICE}"
        )
