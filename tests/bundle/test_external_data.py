"""Graphs whose weights lie in another file are found, and a bundle with one is not opened."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sfsc_bundle.errors import BundleError
from sfsc_bundle.external_data import has_external_data
from sfsc_bundle.folder import open_bundle, write_bundle
from tests.bundle.graphs import graph
from tests.bundle.manifests import manifest


def outside(folder: Path, content: bytes) -> bytes:
    """The same graph with its weights in a file beside it."""
    model = onnx.load_from_string(content)
    onnx.save(model, folder / "x.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    return (folder / "x.onnx").read_bytes()


def test_weights_in_another_file_are_found(tmp_path: Path) -> None:
    whole = graph()
    assert not has_external_data(whole)
    assert has_external_data(outside(tmp_path, whole))


def test_weights_of_a_constant_within_a_branch_are_found() -> None:
    value = numpy_helper.from_array(np.ones((3, 4), np.float32), "value")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["out"], value=value)],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [3, 4])],
    )
    node = helper.make_node("If", ["which"], ["y"], then_branch=branch, else_branch=branch)
    body = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("which", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4])],
    )
    model = helper.make_model(body)
    assert not has_external_data(model.SerializeToString())
    tensor = model.graph.node[0].attribute[0].g.node[0].attribute[0].t
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    assert has_external_data(model.SerializeToString())


@pytest.mark.parametrize("content", [b"\x3f", b"\x3a\x7f", b"\xff" * 12])
def test_what_is_no_graph_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="graph"):
        has_external_data(content)


def test_a_bundle_whose_graph_keeps_weights_outside_is_not_opened(tmp_path: Path) -> None:
    files = {"w1.0.onnx": outside(tmp_path, graph())}
    write_bundle(tmp_path / "bundle", manifest(files), files)
    with pytest.raises(BundleError, match=r"w1\.0\.onnx keeps weights in another file, which its sha256 does not"):
        open_bundle(tmp_path / "bundle")
