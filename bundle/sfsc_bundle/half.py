"""A graph in half precision, made of the float32 graph of a bundle when it is opened, and checked against it.

The bundle itself stays as it is: one set of files and digests serves cameras, CPUs and GPUs. The package onnx is
needed, which the extra `gpu` brings.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sfsc_bundle.errors import BundleError

__all__ = ["HALF_COSINE", "check_half", "half_graph"]

HALF_COSINE = 0.9999
"""The least cosine between an image's vectors in half and full precision, as between a graph and its network."""
_CHECKED_IMAGES = 16
_NAME = "of-the-bundle-"
"""How the names of nodes begin that the converter has not inserted."""
_PRODUCTS = ("Conv", "Gemm", "MatMul")

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def half_graph(content: bytes, name: str) -> bytes:
    """The same graph with weights and features in float16; input and output keep their types.

    What follows the last product stays in float32: the squares of a vector's length may exceed float16, and the
    bound that keeps it from 0 is below its smallest number.

    Args:
        name: of the graph, for messages.

    Raises:
        BundleError: the package onnx is missing, or the graph cannot be converted.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    except ImportError as error:
        raise BundleError("half: needs the package onnx, which the extra gpu brings; or unset half") from error
    try:
        model = onnx.load_model_from_string(content)
        for number, node in enumerate(model.graph.node):
            node.name = f"{_NAME}{number}"  # names may be missing or equal, and the converter goes by them
        converted = convert_float_to_float16(
            model, keep_io_types=True, op_block_list=DEFAULT_OP_BLOCK_LIST, node_block_list=_after_products(model)
        )
        _drop_repeated(converted)
        _join_casts(converted)
        return bytes(converted.SerializeToString())
    except Exception as error:  # of any class: the converter checks little of what it is given
        raise BundleError(f"half: {name} cannot be converted to half precision: {error}; unset half") from error


def check_half(
    half: Callable[[Images], Floats], full: Callable[[Images], Floats], height: int, width: int, name: str
) -> float:
    """The least cosine between both on drawn images, from smooth to noisy and from dark to bright.

    Raises:
        BundleError: it is below `HALF_COSINE`, or not a number.
    """
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (_CHECKED_IMAGES, 4, 4, 3)).astype(np.float32)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    smooth = coarse[:, rows][:, :, columns]
    strength = np.linspace(0, 96, _CHECKED_IMAGES)[:, None, None, None]
    images = np.clip(smooth + strength * random.standard_normal(smooth.shape), 0, 255).astype(np.uint8)
    cosine = float(np.einsum("nd,nd->n", half(images), full(images)).min())
    if not cosine >= HALF_COSINE:
        raise BundleError(
            f"half: vectors of {name} in half and full precision must have a cosine of at least {HALF_COSINE}, "
            f"found {cosine:.6f}; unset half for this bundle"
        )
    return cosine


def _drop_repeated(model: Any) -> None:
    """Leave one of the equal casts that some releases of the converter insert for each reader of a value."""
    first = {tuple(node.output): node for node in reversed(model.graph.node)}
    kept = [node for node in model.graph.node if first[tuple(node.output)] is node]
    if len(kept) < len(model.graph.node):
        copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del model.graph.node[:]
        model.graph.node.extend(copies)


def _is_of_the_bundle(node: Any) -> bool:
    """Whether the converter found this node; some releases name what they insert after the node beside it."""
    return str(node.name).removeprefix(_NAME).isdigit()


def _join_casts(model: Any) -> None:
    """Undo the converter's casts to float16 and back, after each node that stays in float32.

    A length in float16 is off by as much as 0.05 %.
    """
    maker = {output: node for node in model.graph.node for output in node.output}
    for widened in model.graph.node:
        narrowed = maker.get(widened.input[0]) if widened.op_type == "Cast" else None
        if narrowed is None or narrowed.op_type != "Cast":
            continue
        if not _is_of_the_bundle(narrowed) and not _is_of_the_bundle(widened):
            widened.op_type, widened.input[0] = "Identity", narrowed.input[0]
            del widened.attribute[:]


def _after_products(model: Any) -> list[str]:
    """Names of the nodes between the last products and the graph's outputs."""
    graph = model.graph
    maker = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    pending = [output.name for output in graph.output]
    while pending:
        node = maker.get(pending.pop())
        if node is None or node.op_type in _PRODUCTS or node.name in found:
            continue
        found.add(node.name)
        pending += node.input
    return sorted(found)
