"""A real bundle in milliseconds and without torch: random projections that share most of their matrix.

An image's vectors at two widths are close to each other and far from another image's, so that search
across widths works as with a trained bundle. The quality matrices are made up, and say so.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sfsc_bundle.folder import Bundle, write_bundle
from sfsc_bundle.manifest import (
    Alignment,
    Manifest,
    MixedQuality,
    Normalisation,
    Parity,
    Preprocessing,
    Quality,
    Submodel,
    Trained,
)
from sfsc_bundle.runner import INPUT, OUTPUT
from sfsc_bundle.widths import canonical_width

__all__ = ["make_tiny_bundle"]

OPSET = 18
CENTRE = 0.5
FULL_MACS = 40_000_000
GAP = 1.0
"""Points that a mixed gallery lies below the mean of its row; made up, as all of the quality is."""

Matrix = tuple[tuple[float, ...], ...]


def make_tiny_bundle(
    folder: Path,
    widths: Sequence[str] = ("0.25", "0.5", "0.75", "1.0"),
    dimension: int = 16,
    size: int = 16,
    seed: int = 0,
    *,
    space: str = "tiny-space",
    compatible_with: Sequence[str] = (),
    nan_widths: Sequence[str] = (),
    turn: float = 0.0,
) -> Bundle:
    """Write a bundle of `size`×`size` images and `dimension` outputs to `folder` and return it.

    The networks of `nan_widths` give NaN for any image. Those of narrow widths turn their vectors by `turn`, so
    that an alignment helps: 0 not at all, 1 far from those of the full width.
    Another seed gives another projection (let it go with another `space`). Replaces what is there.
    """
    names = tuple(canonical_width(width) for width in widths)
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((size * size * 3, dimension))
    graphs = {}
    for name in names:
        noise = rng.standard_normal(shared.shape)
        matrix = np.full_like(noise, np.nan) if name in nan_widths else noise
        projection = shared + 0.3 * (1.0 - float(name)) * matrix
        graphs[name] = _graph(projection @ _rotation(turn * (1.0 - float(name)), dimension), size, dimension)
    manifest = Manifest(
        name="tiny",
        space=space,
        compatible_with=tuple(compatible_with),
        dimension=dimension,
        preprocessing=Preprocessing(height=size, width=size),
        submodels=tuple(_submodel(name, graphs[name], dimension * size * size * 3) for name in names),
        quality=_quality(names),
        alignment=Alignment(base=None),
        provenance=Trained(
            recipe={"method": "random projection"},
            recipe_sha256="0" * 64,
            data_sha256="0" * 64,
            seed=seed,
            steps=0,
            versions={"onnx": str(onnx.__version__)},
            data_licence="none: no data were used",
        ),
    )
    files = {f"w{name}.onnx": graph for name, graph in graphs.items()}
    return write_bundle(folder, manifest, files, replace=True)


def _rotation(turn: float, dimension: int) -> np.ndarray:
    """An orthogonal matrix, the farther from the identity the larger `turn` is."""
    random = np.random.default_rng(dimension).standard_normal((dimension, dimension))
    skew = turn * (random - random.T)
    identity = np.eye(dimension)
    return np.linalg.solve(identity + skew, identity - skew)  # Cayley's transform


def _graph(matrix: np.ndarray, size: int, dimension: int) -> bytes:
    constants = {
        "scale": np.array(1.0 / 255.0, np.float32),
        "centre": np.array(CENTRE, np.float32),
        "matrix": matrix.astype(np.float32),
        "tiny": np.array(1e-12, np.float32),
        "axes": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "centre"], ["centred"]),
        helper.make_node("Flatten", ["centred"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "matrix"], ["projected"]),
        helper.make_node("ReduceL2", ["projected", "axes"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "tiny"], ["divisor"]),
        helper.make_node("Div", ["projected", "divisor"], [OUTPUT]),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", size, size, 3])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", dimension])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _submodel(name: str, graph: bytes, parameters: int) -> Submodel:
    ratio = float(name)
    return Submodel(
        width=name,
        file=f"w{name}.onnx",
        sha256=hashlib.sha256(graph).hexdigest(),
        parameters=max(1, round(parameters * ratio)),
        macs=round(FULL_MACS * ratio**2),
        opset=OPSET,
        normalisation=Normalisation(mean=(CENTRE,) * 3, deviation=(1.0,) * 3),
        parity=Parity(sliced_max_abs=0.0, onnx_min_cosine=1.0, images=1),
    )


def _quality(names: tuple[str, ...]) -> Quality:
    """Points that grow with the narrower and, less, with the wider width of a pair."""

    def points(low: float) -> Matrix:
        ratios = [float(name) for name in names]
        return tuple(tuple(round(low + 30 * min(a, b) + 10 * max(a, b), 2) for b in ratios) for a in ratios)

    return Quality(
        dataset="synthetic: made up for tests, measured on nothing",
        protocol="none",
        widths=names,
        mean_ap=points(40),
        rank1=points(55),
        queries=1,
        gallery=1,
        skipped_queries=0,
        mixed=_mixed(points(40), points(55)),
    )


def _mixed(mean_ap: Matrix, rank1: Matrix) -> MixedQuality:
    """The mean of a query width's row, less GAP; the curve has the row's ends and, less GAP, their mean."""
    return MixedQuality(
        draws=2,
        mean_ap=tuple(fmean(row) - GAP for row in mean_ap),
        mean_ap_spread=(0.0,) * len(mean_ap),
        rank1=tuple(fmean(row) - GAP for row in rank1),
        rank1_spread=(0.0,) * len(mean_ap),
        shares=(0.0, 0.5, 1.0),
        curve=(
            tuple(row[0] for row in mean_ap),
            tuple((row[0] + row[-1]) / 2 - GAP for row in mean_ap),
            tuple(row[-1] for row in mean_ap),
        ),
    )
