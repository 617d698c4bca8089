"""Graphs that a runner must refuse: the right one with one thing changed."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

__all__ = ["graph"]


def graph(
    *,
    inputs: tuple[str, ...] = ("images",),
    outputs: tuple[str, ...] = ("embeddings",),
    image: tuple[int | str, ...] = (16, 16, 3),
    batch: int | str = "n",
    dimension: int = 16,
    takes: int = TensorProto.UINT8,
    gives: int = TensorProto.FLOAT,
) -> bytes:
    """Mean colour times a constant matrix, as ONNX. Only the first input counts; every output is the same."""
    matrix = np.ones((3, dimension), np.float32)
    nodes = [
        helper.make_node("Cast", [inputs[0]], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "matrix"], ["product"]),
        *(helper.make_node("Cast", ["product"], [name], to=gives) for name in outputs),
    ]
    constants = {"axes": np.array([1, 2], np.int64), "matrix": matrix}
    body = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, takes, [batch, *image]) for name in inputs],
        [helper.make_tensor_value_info(name, gives, [batch, dimension]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())
