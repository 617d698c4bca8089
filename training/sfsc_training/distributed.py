"""Data-parallel training under torchrun, over one machine or several; one process without it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from sfsc_training.errors import TrainingError

__all__ = ["World", "join_world"]


@dataclass(frozen=True, slots=True)
class World:
    """This process among all that train one run."""

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
        """The first process's value, in every process."""
        if self.size == 1:
            return value
        holder = [value]
        distributed.broadcast_object_list(holder, src=0)
        return holder[0]


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started (RANK, WORLD_SIZE), with gloo on the CPU and NCCL on CUDA."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise TrainingError(f"the processes of torchrun cannot meet: {error}") from error
    try:
        yield World(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()
