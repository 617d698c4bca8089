"""Image embedders as others export them: small, built by hand, with what an adoption must get along with."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["embedder"]


def embedder(
    *,
    layout: str = "nchw",
    size: tuple[int | str, int | str] = (24, 20),
    batch: int | str = "n",
    channels: int = 3,
    element: int = TensorProto.FLOAT,
    dimension: int = 12,
    says: int | None = None,
    opset: int = 18,
    outputs: Sequence[str] = ("features",),
    more_inputs: Sequence[str] = (),
    ranked: bool = True,
    pooled: bool = True,
    seed: int = 0,
) -> onnx.ModelProto:
    """Convolution of 3×3, ReLU, mean over the image, matrix: [n, channels, H, W] → [n, D], not of unit length.

    Without `pooled` the output has an axis more; `says` is what the graph claims its dimension to be.
    """
    random = np.random.default_rng(seed)
    constants = {
        "kernel": random.normal(size=(32, channels, 3, 3)).astype(np.float32),
        "shift": random.normal(size=32).astype(np.float32),
        "matrix": random.normal(size=(32, dimension)).astype(np.float32),
    }
    axes = [batch, channels, *size] if layout == "nchw" else [batch, *size, channels]
    first = "image" if layout == "nchw" else "moved"
    moved = [helper.make_node("Transpose", ["image"], ["moved"], perm=[0, 3, 1, 2])] if layout == "nhwc" else []
    nodes = [
        *moved,
        helper.make_node("Cast", [first], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["float", "kernel", "shift"], ["convolved"], strides=[2, 2]),
        helper.make_node("Relu", ["convolved"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        *(helper.make_node("MatMul", ["flat", "matrix"], [name]) for name in outputs),
    ]
    graph = helper.make_graph(
        nodes,
        "embedder",
        [
            helper.make_tensor_value_info("image", element, axes if ranked else None),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in more_inputs),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, says or dimension]) for name in outputs]
        if pooled
        else [helper.make_tensor_value_info("active", TensorProto.FLOAT, [batch, 32, "h", "w"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
