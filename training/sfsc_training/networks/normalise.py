"""The first thing that a network does to its input."""

import torch
from torch import Tensor, nn

from sfsc_bundle.manifest import Normalisation

__all__ = ["Normalise", "default_normalisation", "normalisation_of_weights"]

_IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))
_LUMA = Normalisation(mean=(0.5,), deviation=(0.5,))

_LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow


class Normalise(nn.Module):
    """uint8 RGB [n, 3, H, W] → float [n, channels, H, W], about −2 … 2; with one mean, one channel: luma.

    Neither mean nor deviation is part of the state dict; a checkpoint stores them beside it.
    """

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        self.register_buffer("luma", torch.tensor(_LUMA_WEIGHTS).view(1, 3, 1, 1), persistent=False)
        self.set(normalisation)

    def set(self, normalisation: Normalisation) -> None:
        """Normalise in this way from now on."""
        self.normalisation = normalisation
        place = self.get_buffer("luma")
        for name in ("mean", "deviation"):
            values = torch.tensor(getattr(normalisation, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values.to(place), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Scale to 0–1, convert to luma if there is one channel, subtract the mean, divide by the deviation."""
        values = images.to(self.get_buffer("mean").dtype) / 255.0
        if len(self.normalisation.mean) == 1:
            values = (values * self.get_buffer("luma")).sum(dim=1, keepdim=True)
        return (values - self.get_buffer("mean")) / self.get_buffer("deviation")


def default_normalisation(image_channels: int) -> Normalisation:
    """That of a network that starts from no weights: ImageNet's, or −1 … 1 for one channel."""
    return _IMAGENET if image_channels == 3 else _LUMA


def normalisation_of_weights(backbone: nn.Module, image_channels: int) -> Normalisation:
    """What a timm model's weights were trained with, by its pretrained configuration.

    For one channel from weights of three: the means over the channels, because timm then adds up the kernels of
    the three. A model without such a configuration has ImageNet's.
    """
    known = getattr(backbone, "pretrained_cfg", None) or {}
    mean, deviation = (tuple(known.get(key) or ()) for key in ("mean", "std"))
    if not mean or len(mean) != len(deviation):
        mean, deviation = _IMAGENET.mean, _IMAGENET.deviation
    if len(mean) != image_channels:
        mean, deviation = ((sum(values) / len(values),) * image_channels for values in (mean, deviation))
    return Normalisation(mean=mean, deviation=deviation)
