"""Prove that an adopted graph computes what the network computed before, followed by its map."""

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper
from PIL import Image

from sfsc_bundle.manifest import Parity
from sfsc_bundle.runner import INPUT, OUTPUT
from sfsc_training.adopt.foreign import Foreign
from sfsc_training.adopt.input_format import InputFormat
from sfsc_training.alignment import align
from sfsc_training.errors import AdoptionError
from sfsc_training.onnx_session import open_session

__all__ = ["PARITY_IMAGES", "prove_parity"]

PARITY_IMAGES = 64
_LIMIT = 0.9999

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


def prove_parity(foreign: Foreign, content: bytes, values: Floats | None, pixels: Pixels) -> Parity:
    """Compare the graph of a width with the original one, which gets images that Pillow resized, one by one.

    Args:
        pixels: uint8 [n, H, W, 3], of the bundle's size.

    Raises:
        AdoptionError: the cosine of an image is below 0.9999.
    """
    found = open_session(content).run([OUTPUT], {INPUT: pixels})[0]
    expected = _original(foreign, pixels)
    if values is not None:
        expected = align({foreign.width: expected}, {foreign.width: values})[foreign.width]
    cosine = float((found * expected).sum(axis=1).min())
    if not cosine >= _LIMIT:
        raise AdoptionError(
            f"width {foreign.width}: the graph and {foreign.source} with its map have a cosine of {cosine:.6f}, "
            f"which must be at least {_LIMIT}"
        )
    return Parity(sliced_max_abs=0.0, onnx_min_cosine=cosine, images=len(pixels))


def _original(foreign: Foreign, pixels: Pixels) -> Floats:
    """Unit embeddings [n, D′] by the graph as it came."""
    session = open_session(foreign.original.SerializeToString())
    rows = [
        session.run([foreign.signature.output], {foreign.signature.input: _prepared(foreign, image)})[0]
        for image in pixels
    ]
    found = np.concatenate(rows).astype(np.float32)
    unit: Floats = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def _prepared(foreign: Foreign, image: Pixels) -> npt.NDArray[np.generic]:
    wanted = foreign.input
    resized = _resized(image, wanted)
    if wanted.normalisation is not None:
        mean, deviation = wanted.normalisation.mean, wanted.normalisation.deviation
        resized = (resized / 255.0 - np.array(mean)) / np.array(deviation)
    if wanted.order == "bgr":
        resized = resized[..., ::-1]
    if wanted.layout == "nchw":
        resized = resized.transpose(2, 0, 1)
    return np.ascontiguousarray(resized[np.newaxis]).astype(helper.tensor_dtype_to_np_dtype(wanted.element))


def _resized(image: Pixels, wanted: InputFormat) -> npt.NDArray[Any]:
    """By Pillow; rounded to levels only where the network takes levels."""
    size = wanted.size[::-1]
    if wanted.normalisation is None:
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    channels = [Image.fromarray(image[..., channel].astype(np.float32)) for channel in range(image.shape[2])]
    return np.stack([np.asarray(one.resize(size, Image.Resampling.BILINEAR)) for one in channels], axis=-1)
