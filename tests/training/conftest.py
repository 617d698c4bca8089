import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the training extra is not installed")


def draw_identities(folder: Path, identities: int, shots: int, seed: int) -> Path:
    """Small images: every identity has its own block pattern, every shot its own noise; cameras c1, c2."""
    random = np.random.default_rng(seed)
    for number in range(identities):
        pattern = random.integers(0, 255, (4, 4, 3))
        place = folder / f"id{seed}{number:02d}"
        place.mkdir(parents=True)
        for shot in range(shots):
            noisy = np.kron(pattern, np.ones((8, 8, 1))) + random.normal(0, 20, (32, 32, 3))
            Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(place / f"c{shot % 2 + 1}_{shot}.png")
    return folder


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_identities(folder / "train", identities=8, shots=6, seed=1)
    draw_identities(folder / "test", identities=4, shots=4, seed=2)
    return folder


SMALL_RECIPE = """
name = "small"
widths = [0.5, 1.0]
[data]
height = 32
width = 32
query = "*_0.png"
validation_share = 0.25
[network]
backbone = "resnet10t"
arguments = { stem_type = "", channels = [8, 8, 16, 16] }
stem = "3x3"
stem_stride = 2
dimension = 16
[optimiser]
steps = 12
batch = 16
warmup_steps = 2
lr = 0.01
[augmentation]
degrees = 5.0
flip = 0.5
"""


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(SMALL_RECIPE)
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small network, whose features a map improves: some channels drown the others."""
    import timm
    import torch

    torch.manual_seed(0)
    backbone = timm.create_model("resnet10t", stem_type="", channels=(8, 8, 16, 16), num_classes=0)
    with torch.no_grad():
        backbone.layer4[0].bn2.weight[:4] = 30.0
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(backbone.state_dict(), path)
    return path


def said(*words: object) -> str:
    """What a command printed, in one line."""
    from sfsc_training.cli import main

    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        patch.setattr("sys.argv", ["sfsc-train", *map(str, words)])
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise
    return " ".join(text.getvalue().split())


@pytest.fixture(scope="session")
def small_shards(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small images in shards."""
    folder = tmp_path_factory.mktemp("shards") / "shards"
    assert "64 images of 12 identities are in" in said("shards", small_data, "--to", folder)
    return folder


@pytest.fixture(scope="session")
def images(small_data: Path) -> list[bytes]:
    """The small images as they are encoded."""
    return [path.read_bytes() for path in sorted(small_data.rglob("*.png"))]
