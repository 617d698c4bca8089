"""Turn any module tree of known layers into a switchable one, and cut a plain one of a single width out of it."""

import copy
from collections.abc import Collection, Sequence

from torch import nn

from sfsc_training.errors import NetworkError
from sfsc_training.networks.layers import (
    Crop,
    Switch,
    SwitchableConv2d,
    SwitchableLayer,
    SwitchableLinear,
    SwitchableNorm,
)

__all__ = ["make_switchable", "slice_at"]


def make_switchable(
    module: nn.Module,
    ratios: Sequence[float],
    switch: Switch,
    *,
    whole_inputs: Collection[str] = (),
    whole_outputs: Collection[str] = (),
) -> nn.Module:
    """Replace every convolution, linear layer and batch normalisation by one that runs at any of the ratios.

    The weights stay the same parameters. `module` itself is changed, and returned (or its replacement, where it
    is itself such a layer).

    Args:
        ratios: crop ratios in ascending order.
        switch: says which width runs; shared by all layers.
        whole_inputs: names of layers that keep all input channels (the first convolution).
        whole_outputs: names of layers that keep all output channels (the embedding).

    Raises:
        NetworkError: a layer that the surgery does not know, a layer left without channels, or a width that
            does not cut whole groups; the message names layer and width.
    """
    return _replace(module, "", ratios, switch, frozenset(whole_inputs), frozenset(whole_outputs))


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


def _replace(
    module: nn.Module,
    name: str,
    ratios: Sequence[float],
    switch: Switch,
    whole_inputs: frozenset[str],
    whole_outputs: frozenset[str],
) -> nn.Module:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return SwitchableNorm(module, [_keep(module.num_features, r, name) for r in ratios], switch)
    if type(module) in (nn.Conv2d, nn.Linear):
        crops = [_crop(module, name, r, name in whole_inputs, name in whole_outputs) for r in ratios]
        if isinstance(module, nn.Conv2d):
            return SwitchableConv2d(module, crops, switch)
        assert isinstance(module, nn.Linear)
        return SwitchableLinear(module, crops, switch)
    if module._parameters:
        raise NetworkError(
            f"layer {name or 'root'} ({type(module).__name__}) holds parameters that the surgery cannot crop"
        )
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}" if name else child_name
        setattr(module, child_name, _replace(child, path, ratios, switch, whole_inputs, whole_outputs))
    return module


def _crop(layer: nn.Module, name: str, ratio: float, all_inputs: bool, all_outputs: bool) -> Crop:
    if isinstance(layer, nn.Linear):
        inputs, outputs, groups = layer.in_features, layer.out_features, 1
    else:
        assert isinstance(layer, nn.Conv2d)
        if layer.padding_mode != "zeros":
            raise NetworkError(f"layer {name}: padding mode {layer.padding_mode} is not known to the surgery")
        inputs, outputs, groups = layer.in_channels, layer.out_channels, layer.groups
    kept = Crop(
        outputs if all_outputs else _keep(outputs, ratio, name),
        inputs if all_inputs else _keep(inputs, ratio, name),
    )
    return kept if groups == 1 else _whole_groups(kept, inputs // groups, outputs // groups, ratio, name)


def _whole_groups(kept: Crop, inputs_each: int, outputs_each: int, ratio: float, name: str) -> Crop:
    groups, rest = divmod(kept.inputs, inputs_each)
    if rest or groups == 0 or kept.outputs != groups * outputs_each:
        raise NetworkError(
            f"layer {name}: width {ratio} keeps {kept.inputs} input and {kept.outputs} output channels, which are "
            f"not whole groups of {inputs_each} and {outputs_each}"
        )
    return Crop(kept.outputs, kept.inputs, groups)


def _keep(channels: int, ratio: float, name: str) -> int:
    kept = round(ratio * channels)
    if kept < 1:
        raise NetworkError(f"layer {name}: width {ratio} leaves none of its {channels} channels")
    return kept
