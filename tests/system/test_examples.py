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


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of width 0.25 alone, an image, half of one, and no image."""
    folder = tmp_path_factory.mktemp("device")
    tiny = make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
    for name in ("manifest.json", "w0.25.onnx"):
        shutil.copy(tiny.folder / name, folder)
    image = draw_image(3, size=400)
    for name, content in {"a.jpg": image, "cut.jpg": image[: len(image) // 2], "notes.txt": b"notes"}.items():
        (folder / name).write_bytes(content)
    return folder


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a.jpg", "--width", "0.3"), "width: must be one of 0.25, 0.5, 0.75, 1.0, found 0.3"),
        (("a.jpg", "--width", "0.5"), "the graph of width 0.5, "),
        (("notes.txt",), "the file is no image that Pillow knows: cannot identify image file"),
        (("cut.jpg",), "image file is truncated"),
        (("gone.jpg",), "No such file or directory: "),
        (("a.jpg", "--service", "http://127.0.0.1:9"), "no answer from the service: "),
        (("a.jpg", "--service", "nowhere"), "unknown url type: "),
    ],
)
def test_the_camera_says_in_one_sentence_what_is_wrong(
    camera: ModuleType, device: Path, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, *options = words
    monkeypatch.setattr(sys, "argv", ["camera.py", str(device), str(device / image), *options])
    with pytest.raises(SystemExit) as ended:
        camera.main()
    told = str(ended.value)
    assert told.startswith("camera: ")
    assert said in told
    assert "\n" not in told


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
