"""What training, evaluation and export need of a set of sub-models, whether they share weights or not."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["Family"]


class Family(nn.Module, ABC):
    """Sub-models of ascending width; `index` is a position in the list of widths.

    Called as family(images, index) it embeds uint8 RGB [n, 3, H, W] → [n, D], not yet of unit length.
    """

    @abstractmethod
    def sliced(self, index: int) -> nn.Sequential:
        """A plain module of one width: uint8 RGB [n, 3, H, W] → [n, D]."""

    @abstractmethod
    def private_parameters(self, index: int) -> list[nn.Parameter]:
        """The parameters that only one width has: its normalisation layers, where the rest is shared."""

    @abstractmethod
    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters that more than one width uses."""

    @abstractmethod
    def leading(self, index: int) -> list[Tensor]:
        """What one width uses of each of the shared parameters, in their order: views of their leading parts."""

    def reached(self, index: int) -> Tensor:
        """Which of the shared parameters' numbers one width uses: bool [P], in the order of the parameters."""
        masks = []
        for whole, part in zip(self.shared_parameters(), self.leading(index), strict=True):
            mask = torch.zeros_like(whole, dtype=torch.bool)
            mask[tuple(slice(length) for length in part.shape)] = True
            masks.append(mask.reshape(-1))
        return torch.cat(masks) if masks else torch.zeros(0, dtype=torch.bool)
