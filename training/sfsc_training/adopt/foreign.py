"""Open a network that was trained elsewhere: what it wants, and whether it can become a width at all."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto
from pydantic import ValidationError

from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.manifest import Normalisation
from sfsc_training.adopt.compose import compose_width, modern, without_direction
from sfsc_training.adopt.input_format import InputFormat, Size
from sfsc_training.adopt.signature import Signature, read_signature
from sfsc_training.adopt.source import Loaded, Wanted, load_network
from sfsc_training.errors import AdoptionError
from sfsc_training.networks.normalise import default_normalisation
from sfsc_training.onnx_session import open_session

__all__ = ["Foreign", "as_foreign", "open_foreign"]

Floats = npt.NDArray[np.float32]


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


def open_foreign(wanted: Wanted) -> Foreign:
    """Open a network and try it on two images.

    Raises:
        AdoptionError: it cannot be read, is no image embedder, contradicts what is said of it, or does not run.
        NetworkError: timm does not have it, or the package with its weights is not installed.
    """
    return as_foreign(wanted, load_network(wanted))


def as_foreign(wanted: Wanted, loaded: Loaded) -> Foreign:
    """`open_foreign` of a graph in memory, of which `wanted` says the width and how it is fed."""
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


def _normalisation(loaded: Loaded, signature: Signature, wanted: Wanted) -> Normalisation | None:
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
    """Two images together and each alone must give the same embeddings of unit length."""
    try:
        images = np.random.default_rng(0).integers(0, 256, (2, *foreign.input.size, 3), dtype=np.uint8)
        session = open_session(foreign.compose(foreign.input.size))
        together, *alone = (session.run(None, {"images": part})[0] for part in (images, images[:1], images[1:]))
    except Exception as error:  # onnxruntime raises a class of its own per kind of failure
        reason = " ".join(str(error).split())[:200]
        raise AdoptionError(f"{foreign.source} does not run on two images: {reason}") from error
    if together.shape != (len(images), foreign.signature.dimension):
        raise AdoptionError(
            f"{foreign.source} says that its output is [n, {foreign.signature.dimension}], and gives "
            f"{list(together.shape)} for {len(images)} images"
        )
    if len(without_direction(together)):
        raise AdoptionError(f"{foreign.source} gives zeros, or numbers that are not finite")
    if not np.allclose(together, np.concatenate(alone), atol=1e-3):
        raise AdoptionError(f"{foreign.source} gives an image another embedding when it is alone in its batch")
