"""The cost of an ONNX graph: what `cost` says of a torch module."""

from math import prod

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from sfsc_training.onnx_session import open_session

__all__ = ["graph_macs", "graph_parameters"]

_WEIGHTS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def graph_macs(content: bytes, image: npt.NDArray[np.uint8]) -> int:
    """Multiply-accumulates of convolutions and matrix products for a batch of one image, uint8 [1, H, W, 3].

    The shapes are those of a run: shape inference does not find all of them in graphs that compute shapes.
    """
    model = onnx.load_from_string(content)
    products = [node for node in model.graph.node if node.op_type in _PRODUCTS]
    constants = {values.name: tuple(values.dims) for values in model.graph.initializer}
    outputs = [value.name for value in model.graph.output]
    wanted = dict.fromkeys(name for node in products for name in (*node.input[:2], node.output[0]))
    asked = [name for name in wanted if name not in constants]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in asked if name not in outputs)
    session = open_session(model.SerializeToString())
    found = session.run(asked, {session.get_inputs()[0].name: image})
    shapes = constants | {name: values.shape for name, values in zip(asked, found, strict=True)}
    return sum(_macs(node, shapes) for node in products)


def _macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    first, second = (shapes[name] for name in node.input[:2])
    match node.op_type:
        case "Conv":
            return prod(shapes[node.output[0]]) * prod(second[1:])
        case "ConvTranspose":
            return prod(first) * prod(second[1:])
        case _:
            transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
            return prod(shapes[node.output[0]]) * first[0 if transposed else -1]


def graph_parameters(content: bytes) -> int:
    """How many numbers the floating-point constants of a graph have."""
    graph = onnx.load_from_string(content).graph
    return sum(prod(values.dims) for values in graph.initializer if values.data_type in _WEIGHTS)
