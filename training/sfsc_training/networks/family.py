"""The interface of a set of sub-models, whether they share weights or not."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from sfsc_bundle.manifest import Normalisation
from sfsc_training.networks.normalise import Normalise

__all__ = ["Family"]


class Family(nn.Module, ABC):
    """Sub-models of ascending width; `index` is the position of a width.

    family(images, index) embeds uint8 RGB [n, 3, H, W] → [n, D], not yet of unit length.
    """

    @abstractmethod
    def sliced(self, index: int) -> nn.Sequential:
        """A plain copy of one sub-model: uint8 RGB [n, 3, H, W] → [n, D]."""

    @abstractmethod
    def private_parameters(self, index: int) -> list[nn.Parameter]:
        """The parameters that only this width uses; in a switchable network those of its normalisation layers."""

    @abstractmethod
    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters that several widths use."""

    @abstractmethod
    def leading(self, index: int) -> list[Tensor]:
        """The part of each shared parameter that a width uses, in their order: views of their leading channels."""

    @property
    @abstractmethod
    def widths(self) -> int:
        """How many sub-models there are."""

    @property
    def normalisation(self) -> Normalisation:
        """What every width does to the pixels first."""
        return self._normalisers()[0].normalisation

    def normalise_as(self, normalisation: Normalisation) -> None:
        """Change it at every width."""
        for module in self._normalisers():
            module.set(normalisation)

    def _normalisers(self) -> list[Normalise]:
        return [module for module in self.modules() if isinstance(module, Normalise)]

    def reached(self, index: int) -> Tensor:
        """Whether a width uses a shared weight: bool [P], all shared parameters flattened in their order."""
        masks = []
        for whole, part in zip(self.shared_parameters(), self.leading(index), strict=True):
            mask = torch.zeros_like(whole, dtype=torch.bool)
            mask[tuple(slice(length) for length in part.shape)] = True
            masks.append(mask.reshape(-1))
        return torch.cat(masks) if masks else torch.zeros(0, dtype=torch.bool)
