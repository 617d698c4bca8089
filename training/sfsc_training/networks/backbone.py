"""The timm backbone of a recipe, before it is made switchable."""

from typing import Any, assert_never

import timm
from torch import nn

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
        raise NetworkError(f"network.backbone {section.backbone!r} cannot be built: {reason}") from error
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
        return {"file": str(section.weights_file)}
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
