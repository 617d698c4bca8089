"""Half precision, computed by onnxruntime on the CPU: vectors stay those of full precision, or it is refused."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnxruntime.transformers import float16

from sfsc_bundle.errors import BundleError
from sfsc_bundle.folder import Bundle, open_bundle
from sfsc_bundle.half import HALF_COSINE, check_half, half_graph
from sfsc_bundle.runner import Acceleration, make_runner
from sfsc_bundle.session import open_session
from tests.bundle.graphs import graph
from tests.tiny_bundle import make_tiny_bundle

DEMO = Path(__file__).parents[2] / "models" / "demo"
HALF = Acceleration(half=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny", ["0.5", "1.0"], nan_widths=["0.5"])


def test_weights_and_products_are_in_half_precision_and_what_follows_them_is_not() -> None:
    model = onnx.load_model_from_string(half_graph((DEMO / "w0.25.onnx").read_bytes(), "w0.25.onnx"))
    weights = {value.name: value.data_type for value in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(products) == 14
    assert {weights[name] for node in products for name in node.input[1:]} == {TensorProto.FLOAT16}
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    (length,) = (node for node in model.graph.node if node.op_type == "ReduceL2")
    assert types[length.input[0]] == TensorProto.FLOAT
    assert [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)] == [
        TensorProto.UINT8,
        TensorProto.FLOAT,
    ]


def test_a_cast_inserted_twice_stays_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of onnxruntime 1.27, which then refuses the graph."""
    convert = float16.convert_float_to_float16

    def twice(*given: Any, **options: Any) -> onnx.ModelProto:
        model = convert(*given, **options)
        model.graph.node.extend([node for node in model.graph.node if node.op_type == "Cast"])
        return model

    monkeypatch.setattr(float16, "convert_float_to_float16", twice)
    path = bundle.graph("1.0")
    graph = onnx.load_model_from_string(half_graph(path.read_bytes(), path.name))
    made = [output for node in graph.graph.node for output in node.output]
    assert len(made) == len(set(made))
    make_runner(bundle, "1.0", acceleration=HALF)


@pytest.mark.parametrize("width", ["0.25", "0.5", "0.75", "1.0"])
def test_vectors_of_the_demo_bundle(width: str) -> None:
    demo = open_bundle(DEMO)
    size = demo.manifest.preprocessing
    images = np.random.default_rng(5).integers(0, 256, (3, size.height, size.width, 3), dtype=np.uint8)
    half, full = (make_runner(demo, width, acceleration=each)(images) for each in (HALF, None))
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-6)
    assert (half * full).sum(axis=1).min() >= HALF_COSINE
    assert not np.array_equal(half, full), "it was computed in half precision"


def test_a_network_whose_vectors_change_is_refused(bundle: Bundle) -> None:
    full = make_runner(bundle, "1.0")
    with pytest.raises(
        BundleError, match=r"half: vectors of w1\.0\.onnx .* at least 0\.9999, found -1\.0+; unset"
    ):
        check_half(lambda images: full(~images), full, 16, 16, "w1.0.onnx")
    assert check_half(full, full, 16, 16, "w1.0.onnx") == pytest.approx(1.0, abs=1e-6)


def test_a_network_that_gives_nan_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"half: vectors of w0\.5\.onnx"):
        make_runner(bundle, "0.5", acceleration=HALF)


def test_numbers_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    """Weights beyond 65,504, with which vectors are right in full precision only."""
    made = make_tiny_bundle(tmp_path / "tiny", ["1.0"])
    model = onnx.load_model_from_string(made.graph("1.0").read_bytes())
    for value in model.graph.initializer:
        if value.name == "matrix":
            value.raw_data = (1e6 * np.frombuffer(value.raw_data, np.float32)).tobytes()
    made.graph("1.0").write_bytes(model.SerializeToString())
    assert np.isfinite(make_runner(made, "1.0")(np.zeros((1, 16, 16, 3), np.uint8))).all()
    with pytest.raises(BundleError, match="half: vectors of"):
        make_runner(made, "1.0", acceleration=HALF)


@pytest.mark.parametrize("content", [b"garbage", graph()[:200]], ids=["garbage", "cut off"])
def test_what_is_no_graph(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"half: w1\.0\.onnx cannot be converted to half precision"):
        half_graph(content, "w1.0.onnx")


def test_without_the_package_it_says_which_one(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BundleError, match="half: needs the package onnx, which the extra gpu brings"):
        make_runner(bundle, "1.0", acceleration=HALF)


def test_half_precision_in_the_lanes_of_a_device(bundle: Bundle) -> None:
    """What `make_runner` gives a device, opened for the CPU: a converted graph of a fixed batch size."""
    path = bundle.graph("1.0")
    content = half_graph(path.read_bytes(), path.name)
    session = open_session(path, "cpu", 1, content=content, batch=("n", 4))
    images = np.random.default_rng(5).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    found = session.run(None, {"images": images})[0]
    assert (found * make_runner(bundle, "1.0")(images)).sum(axis=1).min() >= HALF_COSINE
