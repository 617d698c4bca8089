"""The input and output of a foreign graph: refuse what cannot become a width, before any image is embedded."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from sfsc_training.adopt.input_format import Layout, Size
from sfsc_training.errors import AdoptionError

__all__ = ["Signature", "read_signature"]

_ELEMENTS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)
_ELEMENT_NAMES = {number: name.lower() for name, number in TensorProto.DataType.items()}
_COLOURS = 3


@dataclass(frozen=True, slots=True)
class Signature:
    """`element`: ONNX's number of the input's type; `size`: None where height and width are not fixed."""

    input: str
    output: str
    element: int
    layout: Layout
    size: Size | None
    dimension: int


def read_signature(model: onnx.ModelProto, name: str, layout: Layout | None) -> Signature:
    """One image input of three channels, one output [n, D′], any n.

    Args:
        name: of the graph, for messages.
        layout: None: by where the input has three channels.

    Raises:
        AdoptionError: the graph has another form.
    """
    constants = {values.name for values in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    outputs = list(model.graph.output)
    for kind, values in (("input", inputs), ("output", outputs)):
        if len(values) != 1:
            names = ", ".join(value.name for value in values)
            raise AdoptionError(
                f"{name} must have one {kind}, found {len(values)} ({names}); export the embedding alone"
            )
    image, embedding = inputs[0], outputs[0]
    shape = _shape(image, name)
    element = image.type.tensor_type.elem_type
    if element not in _ELEMENTS or len(shape) != 4:
        raise AdoptionError(
            f"{name}: the input {image.name} must be images, float or uint8 with 4 axes, found "
            f"{_ELEMENT_NAMES.get(element, f'type {element}')} {_text(shape)}"
        )
    found = _layout(shape, name, layout)
    size = _size(shape[2:] if found == "nchw" else shape[1:3])
    out = _shape(embedding, name)
    if len(out) != 2 or out[1] is None:
        raise AdoptionError(
            f"{name}: the output {embedding.name} must be [n, D] with a fixed D, found {_text(out)}; "
            "export the pooled embedding"
        )
    for value, axes in ((image, shape), (embedding, out)):
        if axes[0] is not None:
            raise AdoptionError(
                f"{name}: the first axis of {value.name} must be a batch of any length, found {_text(axes)}; "
                "export it with a dynamic batch axis"
            )
    return Signature(image.name, embedding.name, element, found, size, out[1])


def _shape(value: onnx.ValueInfoProto, name: str) -> list[int | None]:
    """The length of every axis, None where it is not fixed."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise AdoptionError(f"{name}: the number of axes of {value.name} must be fixed, found a dynamic rank")
    return [axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim]


def _layout(shape: Sequence[int | None], name: str, layout: Layout | None) -> Layout:
    places: dict[Layout, int | None] = {"nchw": shape[1], "nhwc": shape[3]}
    fitting = [place for place, length in places.items() if length == _COLOURS]
    if layout is not None and places[layout] in (_COLOURS, None):
        return layout
    if layout is not None or not fitting:
        raise AdoptionError(
            f"{name}: the input must be images of {_COLOURS} channels"
            f"{f' in the layout {layout}' if layout else ''}, found {_text(shape)}"
        )
    if len(fitting) > 1:
        raise AdoptionError(f"{name}: the layout of an input {_text(shape)} must be given (--layout)")
    return fitting[0]


def _size(axes: Sequence[int | None]) -> Size | None:
    height, width = axes
    return None if height is None or width is None else (height, width)


def _text(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('any' if length is None else str(length) for length in shape)}]"
