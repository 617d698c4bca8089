"""Running statistics of several processes, merged into those of one process that takes all their micro-batches.

A normalisation layer of momentum m that sees k batches in a process goes from its statistics r to
(1 − m)ᵏ r + s, where s depends on the batches alone. One process that saw the batches of N processes after each
other, first those of process 0, would have (1 − m)ᴺᵏ r + Σₚ (1 − m)⁽ᴺ⁻¹⁻ᵖ⁾ᵏ sₚ.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sfsc_training.distributed import World
from sfsc_training.errors import NetworkError

__all__ = ["RunningStatistics"]


class RunningStatistics:
    """The running mean and variance of every normalisation layer that has them; with one process it does nothing.

    Raises:
        NetworkError: a layer has no momentum, and there are several processes.
    """

    def __init__(self, network: nn.Module, world: World) -> None:
        named = network.named_modules() if world.size > 1 else ()
        layers = [
            (name, part) for name, part in named if isinstance(part, _BatchNorm) and part.track_running_stats
        ]
        plain = [name for name, layer in layers if layer.momentum is None]
        if plain:
            raise NetworkError(
                f"several processes cannot train the normalisation {plain[0]}, which has no momentum"
            )
        self._world = world
        self._decay = [1 - float(layer.momentum or 0) for _, layer in layers]
        self._counts = [_tensor(layer.num_batches_tracked) for _, layer in layers]
        self._tensors = [_tensor(t) for _, layer in layers for t in (layer.running_mean, layer.running_var)]
        self._sizes = [2 * layer.num_features for _, layer in layers]
        self._before: tuple[Tensor, list[int]] | None = None

    def begin(self) -> None:
        """To be called before a step."""
        if self._tensors:
            self._before = self._flat(), self._seen()

    def merge(self) -> None:
        """To be called after the passes of a step, in all processes, before anything reads the statistics."""
        if self._before is None:
            return
        before, seen = self._before
        new = [now - then for now, then in zip(self._seen(), seen, strict=True)]
        powers = [decay**count for decay, count in zip(self._decay, new, strict=True)]
        kept = torch.repeat_interleave(before.new_tensor(powers), before.new_tensor(self._sizes).long())
        rank, size = self._world.rank, self._world.size
        own = (self._flat() - kept * before) * kept ** (size - 1 - rank)
        self._world.add_up([own])
        merged = kept**size * before + own
        pieces = torch.split(merged, [tensor.numel() for tensor in self._tensors])
        torch._foreach_copy_(self._tensors, list(pieces))
        for tracked, count in zip(self._counts, new, strict=True):
            tracked.add_(count * (size - 1))

    def _flat(self) -> Tensor:
        return torch.cat(self._tensors)

    def _seen(self) -> list[int]:
        """How many batches each layer has seen."""
        return _integers(self._counts)


def _integers(tensors: Sequence[Tensor]) -> list[int]:
    found: list[int] = torch.stack(list(tensors)).tolist()  # one wait for the device
    return found


def _tensor(value: Tensor | None) -> Tensor:
    assert value is not None
    return value
