"""Opening and running a graph: what differs from the manifest is refused before the first image."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from sfsc_bundle.errors import BundleError, DeviceError
from sfsc_bundle.folder import Bundle
from sfsc_bundle.runner import make_runner
from tests.bundle.graphs import graph
from tests.tiny_bundle import make_tiny_bundle

WIDTHS = ("0.25", "0.5", "0.75", "1.0")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_gives_unit_vectors_of_the_manifests_dimension(bundle: Bundle, width: str) -> None:
    runner = make_runner(bundle, width)
    vectors = runner(pixels(5))
    assert runner.dimension == 16
    assert vectors.shape == (5, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_widths_are_different_networks_in_one_space(bundle: Bundle) -> None:
    narrow, wide = (make_runner(bundle, width)(pixels(20)) for width in ("0.25", "1.0"))
    assert np.abs(narrow - wide).max() > 1e-3
    assert ((narrow @ wide.T).argmax(axis=1) == np.arange(20)).all()


def test_a_width_the_bundle_has_not(bundle: Bundle) -> None:
    with pytest.raises(KeyError, match=r"0\.3"):
        make_runner(bundle, "0.3")


def test_the_same_images_give_the_same_bits(bundle: Bundle) -> None:
    images = pixels(7)
    first = make_runner(bundle, "1.0")
    np.testing.assert_array_equal(first(images), first(images))
    np.testing.assert_array_equal(first(images), make_runner(bundle, "1.0")(images))


def test_an_image_does_not_depend_on_its_batch(bundle: Bundle) -> None:
    runner, images = make_runner(bundle, "0.5"), pixels(9)
    one_by_one = np.concatenate([runner(images[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(runner(images), one_by_one, atol=1e-5)


def test_memory_order_does_not_matter(bundle: Bundle) -> None:
    runner, images = make_runner(bundle, "0.5"), pixels(4)
    expected = runner(images)
    np.testing.assert_array_equal(runner(images[::-1]), expected[::-1])
    np.testing.assert_array_equal(runner(np.asfortranarray(images)), expected)


def test_one_runner_in_many_threads(bundle: Bundle) -> None:
    runner = make_runner(bundle, "1.0", threads=2)
    batches = [pixels(1 + seed % 5, seed) for seed in range(100)]
    expected = [runner(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(runner, batches))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "images",
    [
        pixels(2).astype(np.float32),
        pixels(2).astype(np.int8),
        pixels(1)[0],
        pixels(2)[:, :, :8],
        pixels(2)[..., :1],
        np.moveaxis(pixels(2), 3, 1),
        np.zeros((0,), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_other_input_is_refused_with_what_was_found(bundle: Bundle, images: np.ndarray) -> None:
    runner = make_runner(bundle, "0.5")
    with pytest.raises(ValueError, match="images must be uint8 n×16×16×3, found") as caught:
        runner(images)
    assert str(images.dtype) in str(caught.value)
    assert str(images.shape) in str(caught.value)
    assert runner(pixels(1)).shape == (1, 16)


def opened_with(tmp_path: Path, content: bytes) -> None:
    bundle = make_tiny_bundle(tmp_path / "tiny", ["1.0"])
    bundle.graph("1.0").write_bytes(content)
    make_runner(bundle, "1.0")


def test_the_unchanged_graph_of_these_tests_is_accepted(tmp_path: Path) -> None:
    opened_with(tmp_path, graph())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"inputs": ("input",)}, r"found \(\['input'\], \['embeddings'\]\)"),
        ({"outputs": ("output",)}, r"found \(\['images'\], \['output'\]\)"),
        ({"inputs": ("images", "more")}, r"found \(\['images', 'more'\]"),
        ({"outputs": ("embeddings", "more")}, r"\['embeddings', 'more'\]"),
        ({"takes": TensorProto.FLOAT}, r"images must be tensor\(uint8\) \[n, 16, 16, 3\], found tensor\(float\)"),
        ({"gives": TensorProto.DOUBLE}, r"embeddings must be tensor\(float\) \[n, 16\], found tensor\(double\)"),
        ({"dimension": 8}, r"embeddings must be .* found tensor\(float\) \['n', 8\]"),
        ({"image": (8, 16, 3)}, r"images must be .* found tensor\(uint8\) \['n', 8, 16, 3\]"),
        ({"image": (16, 16)}, r"images must be .*"),
        ({"image": ("h", "w", 3)}, r"images must be .* \['n', 'h', 'w', 3\]"),
        ({"batch": 4}, r"images must be tensor\(uint8\) \[n, .* found tensor\(uint8\) \[4, 16, 16, 3\]"),
    ],
    ids=lambda part: next(iter(part)) if isinstance(part, dict) else "",
)
def test_a_graph_that_is_not_the_manifests(tmp_path: Path, change: dict[str, object], found: str) -> None:
    with pytest.raises(BundleError, match=found) as caught:
        opened_with(tmp_path, graph(**change))
    assert "w1.0.onnx" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(4096), graph()[:200]], ids=lambda c: f"{len(c)} bytes")
def test_what_is_no_graph(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BundleError, match=r"w1\.0\.onnx: onnxruntime cannot open this graph"):
        opened_with(tmp_path, content)


def test_a_file_that_went_away(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "tiny", ["1.0"])
    bundle.graph("1.0").unlink()
    with pytest.raises(BundleError, match="onnxruntime cannot open this graph"):
        make_runner(bundle, "1.0")


needs_no_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this build has CUDA"
)


@needs_no_cuda
def test_cuda_that_is_not_in_this_build_is_refused(bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="device is cuda, but onnxruntime offers no CUDAExecutionProvider"):
        make_runner(bundle, "1.0", device="cuda")


@needs_no_cuda
@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_cuda_that_falls_back_to_the_cpu_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    with pytest.raises(DeviceError, match="device is cuda"):
        make_runner(bundle, "1.0", device="cuda")


def test_onnxruntime_is_kept_from_reporting_to_its_maker(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import sfsc_bundle.runner"], env=kept | home, check=True)
    # Where it reports, it first makes itself an id in the home folder.
    assert not any(tmp_path.iterdir())
