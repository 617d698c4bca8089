"""The examples, run as their readers run them."""

import ast
import io
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from sfsc_service.client import Client
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import running
from tests.tiny_bundle import make_tiny_bundle

CAMERA = Path(__file__).parents[2] / "examples" / "edge" / "camera.py"
ALLOWED = {"onnxruntime", "numpy", "PIL"}


@pytest.fixture(scope="module")
def camera() -> ModuleType:
    spec = spec_from_file_location("camera", CAMERA)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_camera_needs_three_packages_and_none_of_ours() -> None:
    imports = [
        node for node in ast.walk(ast.parse(CAMERA.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in imports
        for alias in node.names
    }
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names == ALLOWED


def test_the_camera_finds_what_the_server_embedded_at_another_width(tmp_path: Path) -> None:
    tiny = make_tiny_bundle(tmp_path / "tiny")
    device = tmp_path / "device"
    device.mkdir()
    for name in ("manifest.json", "w0.25.onnx"):
        shutil.copy(tiny.folder / name, device)
    (device / "query.jpg").write_bytes(draw_image(3, size=400))
    with running(Settings(bundle=tiny.folder, data=tmp_path / "data", port=0, threads=1)) as live:
        with Client(live.url) as client:
            for n in range(6):
                client.put(f"item-{n}", draw_image(n), width="1.0", metadata={"n": n})
        words = [CAMERA, device, device / "query.jpg", "--service", live.url, "-k", "2"]
        done = subprocess.run(
            [sys.executable, "-P", *map(str, words)], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    first, _ = done.stdout.splitlines()
    assert first.split()[1:] == ["item-3", '{"n":', "3}"]


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_the_camera_makes_the_pixels_of_the_service(
    camera: ModuleType, tmp_path: Path, orientation: int, format: str
) -> None:
    exif = Image.Exif()
    exif[camera.ORIENTATION] = orientation
    path = tmp_path / "image"
    mode = "RGB" if format == "JPEG" else "RGBA"
    image = Image.open(io.BytesIO(draw_image(1, size=301))).convert(mode)
    if format == "PNG":
        image.putalpha(100)
    image.save(path, format, exif=exif)
    expected = preprocess(path.read_bytes(), Preprocessing(height=40, width=24))
    found = camera.load(path, height=40, width=24)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
