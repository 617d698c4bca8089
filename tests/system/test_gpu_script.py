"""benchmarks/gpu.py runs from end to end on the CPU, and reports a missing GPU in one sentence."""

import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from tests.tiny_bundle import make_tiny_bundle

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(bundle: Path, device: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), "--dry", "--bundle", str(bundle), "--device", device]
    words += ["--vectors", "2000", "--repeats", "2"]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    make_tiny_bundle(folder)
    return folder


def test_the_path_without_a_gpu(bundle):
    done = run(bundle, "cpu")
    assert done.returncode == 0, done.stderr
    for kind in ("", ", CUDA graph", ", half", ", CUDA graph, half"):
        assert f"width 0.25{kind}, batches of 32" in done.stdout
    assert "search 2000 rows, 64 queries, k = 1024" in done.stdout


def test_the_training_part_without_a_gpu():
    pytest.importorskip("torch", reason="the training extra is not installed")
    words = [sys.executable, str(SCRIPT), "--dry", "--device", "cpu", "--part", "training", "--repeats", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for precision in ("float32", "bfloat16"):
        assert f"toy, 64 px, batch 8, {precision}: SFSC step / sum of plain passes" in done.stdout
        assert f"toy, rendered vehicles, 2 steps, {precision}: mean mAP" in done.stdout


def test_a_missing_device_is_a_sentence(bundle):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the device")
    done = run(bundle, "cuda")
    assert done.returncode == 1
    assert done.stderr.startswith("gpu.py: device is cuda")
    assert done.stderr.count("\n") == 1
