"""Data-parallel training: the processes that torchrun started, on one machine or several; else this one alone."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, assert_never

import torch
from torch import Tensor, distributed

from sfsc_training.device import Device
from sfsc_training.errors import TrainingError

__all__ = ["World", "is_first", "join_world"]


@dataclass(frozen=True, slots=True)
class World:
    """The number of this process (`rank`) among all `size` processes that train one run."""

    rank: int = 0
    size: int = 1

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.size == 1:
            return
        for tensor in tensors:
            distributed.all_reduce(tensor)
            tensor.div_(self.size)

    def from_first(self, value: Any) -> Any:
        """Send the value of the first process to all; returns it in every one."""
        if self.size == 1:
            return value
        holder = [value]
        distributed.broadcast_object_list(holder, src=0)
        return holder[0]


def is_first() -> bool:
    """Whether this is the first of the processes that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join_world(device: Device) -> Iterator[World]:
    """Join the processes that torchrun started (RANK, WORLD_SIZE): by gloo on the CPU, by NCCL on CUDA.

    Raises:
        TrainingError: the processes cannot reach each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    match device:
        case "cpu":
            backend = "gloo"
        case "cuda":
            backend = "nccl"
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        case _:
            assert_never(device)
    try:
        distributed.init_process_group(backend)
    except (ValueError, RuntimeError) as error:
        raise TrainingError(f"the processes that torchrun started cannot reach each other: {error}") from error
    try:
        yield World(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()
