"""Make a network switchable, by replacing its layers one by one (docs/method.md §1.1)."""

from collections.abc import Collection, Sequence

from timm.layers.layer_scale import LayerScale, LayerScale2d
from torch import nn

from sfsc_training.errors import NetworkError
from sfsc_training.networks.layers import (
    Crop,
    Norm,
    Switch,
    SwitchableConv2d,
    SwitchableLinear,
    SwitchableNorm,
    SwitchableParameters,
)

__all__ = ["make_switchable"]


def make_switchable(
    module: nn.Module,
    ratios: Sequence[float],
    switch: Switch,
    *,
    whole_inputs: Collection[str] = (),
    whole_outputs: Collection[str] = (),
) -> nn.Module:
    """Replace each convolution, linear layer, normalisation and bare parameter by one that runs at every ratio.

    `module` is changed in place and returned; if it is such a layer itself, its replacement is returned. The
    replacements hold the same parameters.

    Args:
        ratios: crop ratios in ascending order.
        switch: selects the width that runs; shared by all layers.
        whole_inputs: names of layers that keep all input channels (the first convolution).
        whole_outputs: names of layers that keep all output channels (the embedding).

    Raises:
        NetworkError: a layer is of a kind that cannot be cropped, keeps no channel, or keeps a part of a group;
            the message names layer and width.
    """
    return _replace(module, "", ratios, switch, frozenset(whole_inputs), frozenset(whole_outputs))


def _replace(
    module: nn.Module,
    name: str,
    ratios: Sequence[float],
    switch: Switch,
    whole_inputs: frozenset[str],
    whole_outputs: frozenset[str],
) -> nn.Module:
    if isinstance(module, Norm):
        return SwitchableNorm(module, [_keep(_channels(module, name), r, name) for r in ratios], switch)
    if type(module) in (nn.Conv2d, nn.Linear):
        crops = [_crop(module, name, r, name in whole_inputs, name in whole_outputs) for r in ratios]
        if isinstance(module, nn.Conv2d):
            return SwitchableConv2d(module, crops, switch)
        assert isinstance(module, nn.Linear)
        return SwitchableLinear(module, crops, switch)
    own = _own_parameters(module, name)
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}" if name else child_name
        setattr(module, child_name, _replace(child, path, ratios, switch, whole_inputs, whole_outputs))
    if not own:
        return module
    counts = {key: [_keep(count, r, name) for r in ratios] for key, count in own.items()}
    return SwitchableParameters(module, counts, switch)


def _own_parameters(module: nn.Module, name: str) -> dict[str, int]:
    """Lengths of a module's own parameters. Raises NetworkError unless each has one number per channel.

    A module without children may do anything with its parameters (group normalisation), so of those only layer
    scales are accepted.
    """
    own = {key: values for key, values in module._parameters.items() if values is not None}
    known = any(True for _ in module.children()) or isinstance(module, LayerScale | LayerScale2d)
    if own and (not known or any(values.ndim != 1 or len(values) < 2 for values in own.values())):
        raise NetworkError(
            f"layer {name or 'root'} ({type(module).__name__}) has parameters that cannot be cropped"
        )
    return {key: len(values) for key, values in own.items()}


def _channels(norm: Norm, name: str) -> int:
    if not isinstance(norm, nn.LayerNorm):
        return norm.num_features
    if len(norm.normalized_shape) != 1:
        raise NetworkError(f"layer {name}: layer normalisation over {norm.normalized_shape} cannot be cropped")
    return int(norm.normalized_shape[0])


def _crop(layer: nn.Module, name: str, ratio: float, all_inputs: bool, all_outputs: bool) -> Crop:
    if isinstance(layer, nn.Linear):
        inputs, outputs, groups = layer.in_features, layer.out_features, 1
    else:
        assert isinstance(layer, nn.Conv2d)
        if layer.padding_mode != "zeros":
            raise NetworkError(f"layer {name}: padding mode {layer.padding_mode} is not supported")
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
