"""Sort the channels of pretrained backbones by importance, so that a narrow width keeps those that matter most.

A width has the leading channels of every layer. The inner channels of a block can change places without any change
of what the block computes: one permutation of the outputs of a layer, of the normalisation after it, and of the
inputs of the layer that reads them. Channels that a residual sum ties to other blocks stay where they are.

Importance is the L1 norm of what reads the channel (Once-for-All, ICLR 2020, §3.3), and for the features that
the embedding reads, whose weights are new, the scale of their normalisation (Network Slimming, ICCV 2017, §3).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfsc_training.errors import NetworkError

__all__ = ["sort_channels"]


@dataclass(frozen=True, slots=True)
class _Chain:
    """Layers with the same channels: `writers` make them, `between` handle each by itself, `reader` takes them.

    Writers and reader are convolutions without groups. Between are normalisations, depthwise convolutions and
    squeeze-and-excite gates. Without a reader the embedding reads them.
    """

    writer: nn.Module
    between: Sequence[nn.Module]
    reader: nn.Module | None


@torch.no_grad()
def sort_channels(backbone: nn.Module) -> None:
    """Sort in place; the outputs of the backbone change places at most.

    Raises:
        NetworkError: it has no block whose channels could be sorted.
    """
    chains = [chain for module in backbone.modules() for chain in _chains(module)]
    if not chains:
        raise NetworkError(
            f"network.channel_order: {type(backbone).__name__} has no ResNet or MobileNet block to be sorted"
        )
    for chain in chains:
        order = torch.argsort(_importance(chain), descending=True, stable=True)
        _permute_outputs(chain.writer, order)
        for module in chain.between:
            _permute_each(module, order)
        if chain.reader is not None:
            _permute_inputs(chain.reader, order)


def _chains(module: nn.Module) -> Iterator[_Chain]:
    """The chains inside a block of timm, or from its last convolution to the embedding."""
    part = dict(module.named_children())
    if {"conv_pw", "conv_dw", "conv_pwl"} <= part.keys():  # InvertedResidual
        yield _Chain(part["conv_pw"], [part[n] for n in ("bn1", "conv_dw", "bn2", "se")], part["conv_pwl"])
    elif {"conv1", "bn1", "conv2", "bn2"} <= part.keys() and "conv_stem" not in part:  # BasicBlock, Bottleneck
        yield from (chain for chain in _residual(part) if _whole(chain.writer) and _whole(chain.reader))
    elif {"conv_stem", "conv_head", "bn2"} <= part.keys():  # EfficientNet and MobileNetV2
        yield _Chain(part["conv_head"], [part["bn2"]], None)


def _residual(part: dict[str, nn.Module]) -> Iterator[_Chain]:
    yield _Chain(part["conv1"], [part["bn1"]], part["conv2"])
    if "conv3" in part:
        yield _Chain(part["conv2"], [part["bn2"], part.get("se", nn.Identity())], part["conv3"])


def _whole(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == 1


def _importance(chain: _Chain) -> Tensor:
    if isinstance(chain.reader, nn.Conv2d):
        return chain.reader.weight.abs().sum(dim=(0, 2, 3))
    scale = chain.between[0].weight
    assert isinstance(scale, Tensor)
    return scale.abs()


def _permute_outputs(module: nn.Module, order: Tensor) -> None:
    for values in module.parameters(recurse=False):
        values.copy_(values[order].clone())


def _permute_inputs(module: nn.Module, order: Tensor) -> None:
    assert isinstance(module, nn.Conv2d)
    module.weight.copy_(module.weight[:, order].clone())


def _permute_each(module: nn.Module, order: Tensor) -> None:
    gate = dict(module.named_children())
    if {"conv_reduce", "conv_expand"} <= gate.keys():  # squeeze and excite
        _permute_inputs(gate["conv_reduce"], order)
        _permute_outputs(gate["conv_expand"], order)
        return
    for values in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if values.ndim:  # not the count of batches
            values.copy_(values[order].clone())
