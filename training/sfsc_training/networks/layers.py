"""Layers that run at any of several crops of one set of weights (method: the leading channels are kept).

Invariants: a convolution or linear layer owns its full weights and shares their leading part among all widths;
a normalisation owns a private copy for each width. `Switch.index` says which width runs; `sliced` gives a plain
layer of one width that shares nothing with this one.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

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
    """The width that runs now: a position in the ascending list of ratios. One object for a whole network."""

    index: int


@dataclass(frozen=True, slots=True)
class Crop:
    """How much of a layer one width keeps: leading output and input channels, and whole groups."""

    outputs: int
    inputs: int
    groups: int = 1


class SwitchableLayer(nn.Module, ABC):
    """A layer that knows every width's crop."""

    def __init__(self, switch: Switch) -> None:
        super().__init__()
        self.switch = switch

    @abstractmethod
    def sliced(self, index: int) -> nn.Module:
        """A plain layer with this width's part of the weights."""


class SwitchableWeights(SwitchableLayer):
    """A layer whose weights are shared among the widths."""

    @abstractmethod
    def leading(self, index: int) -> list[tuple[Tensor, Tensor]]:
        """Each of the layer's own parameters with its leading part, a view: what this width uses of it."""


class _Kernel(SwitchableWeights):
    """A weight with output and input channels, and a bias."""

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
    """`W[:outputs, :inputs / groups]` of one convolution."""

    def __init__(self, full: nn.Conv2d, crops: Sequence[Crop], switch: Switch) -> None:
        super().__init__(switch)
        self.weight, self.bias = full.weight, full.bias
        self.crops = tuple(crops)
        self.stride, self.padding, self.dilation = full.stride, full.padding, full.dilation

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] → [n, outputs, h', w'] at the width that is switched on."""
        crop = self.crops[self.switch.index]
        weight, bias = _cropped(self.weight, self.bias, crop)
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
    """`W[:outputs, :inputs]` of one linear layer."""

    def __init__(self, full: nn.Linear, crops: Sequence[Crop], switch: Switch) -> None:
        super().__init__(switch)
        self.weight, self.bias = full.weight, full.bias
        self.crops = tuple(crops)

    def forward(self, x: Tensor) -> Tensor:
        """[…, inputs] → […, outputs] at the width that is switched on."""
        return F.linear(x, *_cropped(self.weight, self.bias, self.crops[self.switch.index]))

    def sliced(self, index: int) -> nn.Module:
        crop = self.crops[index]
        plain = nn.Linear(crop.inputs, crop.outputs, bias=self.bias is not None)
        return _filled(plain, *_cropped(self.weight, self.bias, crop))


class SwitchableParameters(SwitchableWeights):
    """A module with parameters of its own, one number a channel (ConvNeXt's `gamma`), beside its children.

    The module sees the leading part of them, and computes as it always did.
    """

    def __init__(self, module: nn.Module, counts: Mapping[str, Sequence[int]], switch: Switch) -> None:
        super().__init__(switch)
        self.switched, self.counts = module, dict(counts)

    def forward(self, x: Tensor) -> Tensor:
        """Whatever the module computes, at the width that is switched on."""
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
    """One private normalisation per width, of batches or of layers.

    With shared batch statistics the narrow widths collapse at test time; layer normalisation has none,
    but its scale and shift fit the distribution of one width. Copies the layer whole: a subclass that carries an
    activation keeps it.
    """

    def __init__(self, full: Norm, channels: Sequence[int], switch: Switch) -> None:
        super().__init__(switch)
        self.widths = nn.ModuleList(_cropped_norm(full, count) for count in channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise with the statistics of the width that is switched on."""
        normalised: Tensor = self.widths[self.switch.index](x)
        return normalised

    def sliced(self, index: int) -> nn.Module:
        return copy.deepcopy(self.widths[index])


def slice_at(module: nn.Module, index: int) -> nn.Module:
    """A plain copy of one width of a switchable module; no switch is left in it and no tensor is shared."""
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
