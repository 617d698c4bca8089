"""benchmarks/gpu.py runs from end to end on the CPU, and reports a missing GPU in one sentence."""

import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from tests.tiny_bundle import make_tiny_bundle

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(bundle: Path, device: str, *further: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), "--dry", "--bundle", str(bundle), "--device", device, *further]
    words += ["--vectors", "2000", "--repeats", "2", "--seconds", "0.3"]
    return subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    make_tiny_bundle(folder)
    return folder


PRINTED = {
    "runner": [
        f"width 0.25{kind}, batches of 32" for kind in ("", ", CUDA graph", ", half", ", CUDA graph, half")
    ],
    "service": ["cpu: width 0.25, single  ", "cpu: width 1.0, bulk: mean batch"],
    "search": [
        "search 2000 rows, 64 queries, k = 1024",
        "one query, k = 4096: by the host",
        "float16: recall at 10",
        "IVF50, float16, 16 probes: recall at 10",
        "search: CAGRA is left out: faiss has it for GPUs only",
    ],
}


@pytest.mark.parametrize("part", PRINTED)
def test_a_part_without_a_gpu(bundle, part):
    done = run(bundle, "cpu", "--part", part)
    assert done.returncode == 0, done.stderr
    assert [text for text in PRINTED[part] if text not in done.stdout] == []


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
