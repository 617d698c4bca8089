"""A foreign graph with its preprocessing before it and its map behind it: uint8 [n, H, W, 3] → float32 [n, D]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, inliner, numpy_helper, version_converter

from sfsc_bundle.runner import INPUT, OUTPUT
from sfsc_training.adopt.input_format import InputFormat, Size
from sfsc_training.adopt.signature import Signature
from sfsc_training.errors import AdoptionError

__all__ = ["OPSET", "compose_width", "modern", "opset_of", "without_direction"]

OPSET = 18
"""The first that resizes with antialiasing."""

Floats = npt.NDArray[np.float32]

_PIXELS, _FEATURES = "sfsc_pixels", "sfsc_features"
_PREFIX = "adopted/"
_HALF = 0.5


def modern(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The same graph at opset 18 or later, without local functions, initialisers among its inputs or notes.

    Raises:
        AdoptionError: onnx cannot convert it.
    """
    try:
        found: onnx.ModelProto = inliner.inline_local_functions(model)
        if opset_of(found) < OPSET:
            found = version_converter.convert_version(found, OPSET)
        found = onnx.shape_inference.infer_shapes(found)
    except Exception as error:  # onnx raises several classes, most of them RuntimeError
        reason = " ".join(str(error).split())[:200]
        raise AdoptionError(f"{name} cannot be converted to opset {OPSET}: {reason}") from error
    constants = {values.name for values in found.graph.initializer}
    for value in [value for value in found.graph.input if value.name in constants]:
        found.graph.input.remove(value)
    del found.metadata_props[:]
    return found


def compose_width(
    model: onnx.ModelProto, signature: Signature, wanted: InputFormat, size: Size, values: Floats | None
) -> bytes:
    """The graph of one width, serialised.

    Args:
        model: as `modern` returns it.
        size: of the images that the composed graph takes.
        values: the map [D′ + 1, D] of the unit embedding, the bias in its last row; None: there is none.
    """
    length = signature.dimension if values is None else values.shape[1]
    features = model.graph.output[0].type.tensor_type.elem_type
    before = _chain(
        model,
        _value(INPUT, TensorProto.UINT8, [*size, 3]),
        helper.make_tensor_value_info(_PIXELS, wanted.element, None),
        _preprocessing(wanted, size),
    )
    after = _chain(
        model,
        _value(_FEATURES, features, [signature.dimension]),
        _value(OUTPUT, TensorProto.FLOAT, [length]),
        _embedding(values),
    )
    foreign = compose.add_prefix(model, _PREFIX)
    whole = compose.merge_models(before, foreign, io_map=[(_PIXELS, _PREFIX + signature.input)])
    whole = compose.merge_models(whole, after, io_map=[(_PREFIX + signature.output, _FEATURES)])
    return bytes(whole.SerializeToString())


def without_direction(embeddings: Floats) -> npt.NDArray[np.int64]:
    """The rows that a composed graph could not bring to unit length: zeros, or numbers that are not finite."""
    return np.flatnonzero(~(np.linalg.norm(embeddings, axis=1) > _HALF))


@dataclass(frozen=True, slots=True)
class _Step:
    """A node that takes what the step before made, and constants; None leaves an optional input out."""

    operator: str
    constants: Sequence[npt.NDArray[Any] | None] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


def _preprocessing(wanted: InputFormat, size: Size) -> list[_Step]:
    """uint8 RGB [n, H, W, 3] → what the network wants."""
    normalisation = wanted.normalisation
    steps = [] if normalisation is None else [_Step("Cast", (), {"to": TensorProto.FLOAT})]
    if wanted.size != size:
        # Without what lies outside, as Pillow resizes. Channels last: onnxruntime 1.32 moves a transposition over
        # the resize and then cannot open the graph.
        options = {"mode": "linear", "antialias": 1, "exclude_outside": 1, "axes": [1, 2]}
        steps.append(_Step("Resize", (None, None, np.array(wanted.size, np.int64)), options))
    if normalisation is not None:
        mean, deviation = (
            255 * np.array(values, np.float32) for values in (normalisation.mean, normalisation.deviation)
        )
        steps += [_Step("Sub", (mean,)), _Step("Div", (deviation,))]
    if wanted.order == "bgr":
        steps.append(_Step("Gather", (np.array([2, 1, 0], np.int64),), {"axis": 3}))
    if wanted.layout == "nchw":
        steps.append(_Step("Transpose", (), {"perm": [0, 3, 1, 2]}))
    return [*steps, _Step("Cast", (), {"to": wanted.element})]


def _embedding(values: Floats | None) -> list[_Step]:
    """The network's output → the embedding of unit length."""
    unit = _Step("LpNormalization", (), {"axis": 1, "p": 2})
    steps = [_Step("Cast", (), {"to": TensorProto.FLOAT}), unit]
    return steps if values is None else [*steps, _Step("Gemm", (values[:-1], values[-1])), unit]


def _chain(
    model: onnx.ModelProto, start: onnx.ValueInfoProto, end: onnx.ValueInfoProto, steps: Sequence[_Step]
) -> onnx.ModelProto:
    """A model of steps one after the other, of the versions of another model."""
    nodes, constants, before = [], [], start.name
    for number, step in enumerate(steps, 1):
        after = end.name if number == len(steps) else f"{end.name}_{number}"
        names = ["" if value is None else f"{after}_{place}" for place, value in enumerate(step.constants)]
        given = [(name, value) for name, value in zip(names, step.constants, strict=True) if value is not None]
        constants += [numpy_helper.from_array(value, name) for name, value in given]
        nodes.append(helper.make_node(step.operator, [before, *names], [after], **step.attributes))
        before = after
    graph = helper.make_graph(nodes, end.name, [start], [end], constants)
    versions = [helper.make_opsetid("", opset_of(model))]
    return helper.make_model(graph, opset_imports=versions, ir_version=model.ir_version)


def _value(name: str, element: int, rest: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, ["n", *rest])


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a graph uses."""
    return max(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
