"""The timm backbone of a recipe, before it is made switchable."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn

from sfsc_training.config import NetworkSection
from sfsc_training.errors import NetworkError
from sfsc_training.networks.published_weights import published_weights

__all__ = ["first_convolution", "make_backbone", "pooled_features"]

_LONGEST_REASON = 300  # characters; torch lists every key of a weights file that does not fit


def make_backbone(section: NetworkSection) -> nn.Module:
    """A network that ends at its pooled feature: float32 [n, channels, H, W] → [n, pooled_features(backbone)].

    Raises:
        NetworkError: timm does not know the backbone or its arguments, the weights do not fit, or the stem
            cannot be replaced.
    """
    overlay = _overlay(section)
    try:
        backbone: nn.Module = timm.create_model(
            section.backbone,
            pretrained=section.from_weights,
            pretrained_cfg_overlay=overlay,
            in_chans=section.image_channels,
            num_classes=0,
            **section.arguments,
        )
    except Exception as error:  # timm, its models and torch.load raise many classes
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        weights = "" if section.weights_file is None else f" with network.weights_file {section.weights_file}"
        raise NetworkError(f"network.backbone {section.backbone!r}{weights} cannot be built: {reason}") from error
    if section.weights_file is not None and overlay is not None:
        _check_layout(backbone, section, overlay["state_dict"])
    getattr(backbone, "pretrained_cfg", {}).pop("state_dict", None)  # else every copy of the network has it, too
    match section.stem:
        case "timm":
            pass
        case "3x3":
            _replace_stem(backbone, section)
        case _:
            assert_never(section.stem)
    return backbone


def _overlay(section: NetworkSection) -> dict[str, Any] | None:
    """Where timm takes the weights from; None: from where it has them itself."""
    if section.weights_file is not None:
        if not section.weights_file.is_file():
            raise NetworkError(f"network.weights_file {section.weights_file} does not exist")
        return {"state_dict": _read_weights(section.weights_file)}
    if section.weights is None:
        return None
    known = published_weights(section.weights)
    if section.backbone != known.backbone:
        raise NetworkError(
            f"network.weights {section.weights!r} are of the backbone {known.backbone!r}; found "
            f"network.backbone {section.backbone!r}"
        )
    mean, deviation = known.normalisation.mean, known.normalisation.deviation
    return {"state_dict": known.state(), "mean": mean, "std": deviation}


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        found = load_state_dict(str(path), weights_only=True)
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}
    except Exception as error:  # torch.load raises many classes, and advises to run what is in the file
        raise NetworkError(
            f"network.weights_file {path} cannot be read: it must be a state dict as timm or torch.save writes it"
        ) from error


def _check_layout(backbone: nn.Module, section: NetworkSection, given: Mapping[str, Tensor]) -> None:
    """timm loads what it finds; a network that is random in part is not what was asked for."""
    own = {name: value for name, value in backbone.state_dict().items() if value.is_floating_point()}
    by_size: dict[int, list[Tensor]] = defaultdict(list)
    for value in given.values():
        by_size[value.numel()].append(value.flatten())
    # timm renames the weights of some authors, so what is not there by name may be there by value.
    missing = [
        name
        for name, value in own.items()
        if name not in given and not any(torch.equal(value.flatten(), v) for v in by_size[value.numel()])
    ]
    if missing:
        raise NetworkError(
            f"network.weights_file {section.weights_file} has another layout: of the {len(own)} weights of "
            f"{section.backbone!r} it lacks {len(missing)}, {missing[0]!r} among them"
        )


def pooled_features(backbone: nn.Module) -> int:
    """Length of the feature that a timm model without its classifier gives."""
    # timm's models have both, nn.Module neither; MobileNetV3 has a layer between pool and classifier
    return int(getattr(backbone, "head_hidden_size", None) or getattr(backbone, "num_features"))  # noqa: B009


def first_convolution(backbone: nn.Module, image_channels: int) -> str:
    """Name of the convolution that takes the image. Raises NetworkError where the first one does not."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels == image_channels:
                return str(name)
            break
    raise NetworkError(f"{type(backbone).__name__}: its first convolution does not take {image_channels} channels")


def _replace_stem(backbone: nn.Module, section: NetworkSection) -> None:
    first, pool = getattr(backbone, "conv1", None), getattr(backbone, "maxpool", None)
    if not isinstance(first, nn.Conv2d) or pool is None:
        raise NetworkError(f"network.stem 3x3 replaces the stem of a plain ResNet; {section.backbone} has none")
    if section.from_weights:
        raise NetworkError("network.stem 3x3 would discard pretrained weights; use stem timm with them")
    backbone.conv1 = nn.Conv2d(
        section.image_channels, first.out_channels, 3, section.stem_stride, padding=1, bias=False
    )
    nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
    backbone.maxpool = nn.Identity()
