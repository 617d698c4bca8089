"""Layers that run at several widths, each with the leading channels of one set of weights (docs/method.md §1.1).

Invariants: a convolution or linear layer has one full weight, of which every width uses the leading part; a
normalisation has a private copy per width. `Switch.index` selects the width that runs. `sliced` makes a plain
layer of one width that shares no tensor with this one.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sfsc_training.networks.depthwise import depthwise, is_slow_in_onednn

__all__ = [
    "Crop",
    "Norm",
    "Switch",
    "SwitchableConv2d",
    "SwitchableLayer",
    "SwitchableLinear",
    "SwitchableNorm",
    "SwitchableParameters",
    "SwitchableWeights",
    "slice_at",
]

Norm = nn.modules.batchnorm._BatchNorm | nn.LayerNorm


@dataclass
class Switch:
    """Selects the width that runs, by its position; one object is shared by all layers of a network."""

    index: int


@dataclass(frozen=True, slots=True)
class Crop:
    """How many leading output and input channels one width keeps of a layer, and how many groups."""

    outputs: int
    inputs: int
    groups: int = 1


class SwitchableLayer(nn.Module, ABC):
    """A layer that runs at every width."""

    def __init__(self, switch: Switch) -> None:
        super().__init__()
        self.switch = switch

    @abstractmethod
    def sliced(self, index: int) -> nn.Module:
        """A plain layer with a copy of the weights of one width."""


class SwitchableWeights(SwitchableLayer):
    """A layer whose weights are shared among the widths."""

    @abstractmethod
    def leading(self, index: int) -> list[tuple[Tensor, Tensor]]:
        """Each of the layer's own parameters, with the view of it that a width uses."""


class _Kernel(SwitchableWeights):
    """A layer with a weight of output × input channels, and a bias or none."""

    weight: Tensor
    bias: Tensor | None
    crops: tuple[Crop, ...]

    def leading(self, index: int) -> list[tuple[Tensor, Tensor]]:
        weight, bias = _cropped(self.weight, self.bias, self.crops[index])
        pairs = [(self.weight, weight)]
        if self.bias is not None and bias is not None:
            pairs.append((self.bias, bias))
        return pairs


class SwitchableConv2d(_Kernel):
    """A convolution with `W[:outputs, :inputs / groups]`."""

    def __init__(self, full: nn.Conv2d, crops: Sequence[Crop], switch: Switch) -> None:
        super().__init__(switch)
        self.weight, self.bias = full.weight, full.bias
        self.crops = tuple(crops)
        self.stride, self.padding, self.dilation = full.stride, full.padding, full.dilation

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] → [n, outputs, h', w'] at the selected width."""
        # The weight is cropped anew in every pass: a kept view would miss the weights that training swaps in
        # through functional_call, and would hold the graph of the last pass.
        crop = self.crops[self.switch.index]
        weight, bias = _cropped(self.weight, self.bias, crop)
        if is_slow_in_onednn(x, weight, crop.groups, self.dilation) and not isinstance(self.padding, str):
            return depthwise(x, weight, bias, self.stride, self.padding)
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, crop.groups)

    def sliced(self, index: int) -> nn.Module:
        crop = self.crops[index]
        plain = nn.Conv2d(
            crop.inputs,
            crop.outputs,
            self.weight.shape[2:],  # type: ignore[arg-type]
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.dilation,  # type: ignore[arg-type]
            crop.groups,
            bias=self.bias is not None,
        )
        return _filled(plain, *_cropped(self.weight, self.bias, crop))


class SwitchableLinear(_Kernel):
    """A linear layer with `W[:outputs, :inputs]`."""

    def __init__(self, full: nn.Linear, crops: Sequence[Crop], switch: Switch) -> None:
        super().__init__(switch)
        self.weight, self.bias = full.weight, full.bias
        self.crops = tuple(crops)

    def forward(self, x: Tensor) -> Tensor:
        """[…, inputs] → […, outputs] at the selected width."""
        return F.linear(x, *_cropped(self.weight, self.bias, self.crops[self.switch.index]))

    def sliced(self, index: int) -> nn.Module:
        crop = self.crops[index]
        plain = nn.Linear(crop.inputs, crop.outputs, bias=self.bias is not None)
        return _filled(plain, *_cropped(self.weight, self.bias, crop))


class SwitchableParameters(SwitchableWeights):
    """Wraps a module that has parameters of its own, one number per channel (ConvNeXt's `gamma`).

    During a forward pass the module has the leading part of them in their place.
    """

    def __init__(self, module: nn.Module, counts: Mapping[str, Sequence[int]], switch: Switch) -> None:
        super().__init__(switch)
        self.switched, self.counts = module, dict(counts)

    def forward(self, x: Tensor) -> Tensor:
        """What the module computes, at the selected width."""
        result: Tensor = functional_call(self.switched, self._cropped(self.switch.index), (x,))
        return result

    def sliced(self, index: int) -> nn.Module:
        plain = slice_at(self.switched, index)
        for name, values in self._cropped(index).items():
            setattr(plain, name, nn.Parameter(values.detach().clone()))
        return plain

    def leading(self, index: int) -> list[tuple[Tensor, Tensor]]:
        return [(getattr(self.switched, name), values) for name, values in self._cropped(index).items()]

    def _cropped(self, index: int) -> dict[str, Tensor]:
        return {name: getattr(self.switched, name)[: counts[index]] for name, counts in self.counts.items()}


class SwitchableNorm(SwitchableLayer):
    """One private batch or layer normalisation per width.

    With shared batch statistics the narrow widths collapse at test time; layer normalisation has none, but its
    scale and shift fit one width only. The layer is copied as a whole, so a subclass that
    includes an activation (timm's BatchNormAct2d) keeps it.
    """

    def __init__(self, full: Norm, channels: Sequence[int], switch: Switch) -> None:
        super().__init__(switch)
        self.widths = nn.ModuleList(_cropped_norm(full, count) for count in channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise with the layer of the selected width."""
        normalised: Tensor = self.widths[self.switch.index](x)
        return normalised

    def sliced(self, index: int) -> nn.Module:
        return copy.deepcopy(self.widths[index])


def slice_at(module: nn.Module, index: int) -> nn.Module:
    """A plain copy of a module at one width, without any switchable layer or shared tensor."""
    if isinstance(module, SwitchableLayer):
        return module.sliced(index)
    plain = copy.copy(module)
    plain._parameters = copy.deepcopy(module._parameters)
    plain._buffers = copy.deepcopy(module._buffers)
    plain._modules = {
        name: None if child is None else slice_at(child, index) for name, child in module._modules.items()
    }
    return plain


def _cropped(weight: Tensor, bias: Tensor | None, crop: Crop) -> tuple[Tensor, Tensor | None]:
    return (
        weight[: crop.outputs, : crop.inputs // crop.groups],
        None if bias is None else bias[: crop.outputs],
    )


def _filled(plain: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Module:
    with torch.no_grad():
        plain.weight.copy_(weight)
        if bias is not None and plain.bias is not None:
            plain.bias.copy_(bias)
    return plain


def _cropped_norm(full: Norm, channels: int) -> nn.Module:
    norm = copy.deepcopy(full)
    if isinstance(norm, nn.LayerNorm):
        norm.normalized_shape = (channels,)
    else:
        norm.num_features = channels
    for name, values in full._parameters.items():
        if values is not None:
            setattr(norm, name, nn.Parameter(values.detach()[:channels].clone()))
    for name, statistics in full._buffers.items():
        if statistics is not None and statistics.ndim:
            setattr(norm, name, statistics[:channels].clone())
    return norm
