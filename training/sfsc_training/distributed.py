"""Data-parallel training: the processes that torchrun started, on one machine or several; else this one alone.

Where one of them ends or hangs, the others end with a sentence; torchrun then starts all of them again
(`--max-restarts`), and they go on from the last checkpoint.
"""

import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_never

import torch
from torch import Tensor, distributed
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from sfsc_training.device import Device
from sfsc_training.errors import FailedError, TrainingError

__all__ = ["TIMEOUT_S", "World", "agree", "is_alone", "is_first", "join_world", "restart"]

TIMEOUT_S = 600.0
_BETWEEN_LOOKS_S = 0.05
_SOURCE = re.compile(r"^\[[^]]*\]\s*")  # where in its code gloo found it


@dataclass(frozen=True, slots=True)
class World:
    """The number of this process (`rank`) among all `size` processes that train one run.

    `timeout_s`: seconds after which a process that does not answer is given up.

    All methods raise FailedError where another process has ended or does not answer.
    """

    rank: int = 0
    size: int = 1
    timeout_s: float = TIMEOUT_S

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        self.add_up(tensors)
        for tensor in tensors if self.size > 1 else ():
            tensor.div_(self.size)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        if self.size == 1:
            return
        with self._explain_lost_process():
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def from_first(self, value: Any) -> Any:
        """Send the value of the first process to all; returns it in every one."""
        if self.size == 1:
            return value
        holder = [value]
        with self._explain_lost_process():
            distributed.broadcast_object_list(holder, src=0)
        return holder[0]

    def from_all(self, value: Any) -> list[Any]:
        """The values of all processes, by their number, in every one."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        with self._explain_lost_process():
            distributed.all_gather_object(values, value)
        return values

    @contextmanager
    def _explain_lost_process(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            what = _SOURCE.sub("", str(error).splitlines()[0]).partition(". ")[0].strip().rstrip(".")
            raise FailedError(
                f"process {self.rank} of {self.size} on {socket.gethostname()}: another process has ended, or did "
                f"not answer for {self.timeout_s:g} s ({what}); the run can be resumed from its last checkpoint"
            ) from error


def is_first() -> bool:
    """Whether this is the first of the processes that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def is_alone() -> bool:
    """Whether there is no other process."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


def restart() -> tuple[int, int]:
    """How often torchrun has started the processes again, and how often it will at most."""
    names = ("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS")
    count, most = (int(os.environ.get(name, "0")) for name in names)
    return count, most


@contextmanager
def join_world(device: Device, timeout_s: float = TIMEOUT_S) -> Iterator[World]:
    """Join the processes that torchrun started (RANK, WORLD_SIZE): by gloo on the CPU, by NCCL on CUDA.

    Args:
        timeout_s: seconds after which a process that does not answer is given up.

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
    timeout = timedelta(seconds=timeout_s)
    try:
        store, rank, _ = next(rendezvous("env://", timeout=timeout))
        store = PrefixStore(agree(store, rank, size, timeout_s), store)
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    except (ValueError, RuntimeError) as error:
        raise TrainingError(f"the processes that torchrun started cannot reach each other: {error}") from error
    try:
        yield World(rank, size, timeout_s)
    finally:
        distributed.destroy_process_group()


def agree(store: Store, rank: int, size: int, timeout_s: float) -> str:
    """A word that only the processes of this start know, for the names under which they find each other.

    torchrun keeps one store over all starts. Without such a word the processes of the second start find the
    addresses of the first, which are dead, and wait for them until the time is up. The number of the start will
    not do: each machine counts for itself (pytorch/pytorch#135712).

    Raises:
        RuntimeError: the store cannot be reached, or a process did not come.
    """
    mine = uuid.uuid4().hex
    if rank == 0:
        store.set("sfsc/word", mine)
        names = [f"sfsc/{mine}/{other}" for other in range(1, size)]
        store.wait(names, timedelta(seconds=timeout_s))
        store.set(f"sfsc/{mine}/all", b" ".join(store.get(name) for name in names).decode())
        return mine
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        word: str = store.get("sfsc/word").decode()  # perhaps that of an earlier start, until it is replaced
        store.set(f"sfsc/{word}/{rank}", mine)
        with suppress(RuntimeError):
            store.wait([f"sfsc/{word}/all"], timedelta(seconds=1))
            if mine in store.get(f"sfsc/{word}/all").decode().split():
                return word
        time.sleep(_BETWEEN_LOOKS_S)
    raise RuntimeError(f"the first process did not come within {timeout_s:g} s")
