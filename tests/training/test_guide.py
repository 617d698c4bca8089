"""docs/training.md is a how-to: its recipe is valid and its commands run as written, with fewer steps."""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from sfsc_bundle.folder import open_bundle
from sfsc_training.cli import app
from sfsc_vehicles.__main__ import main as draw

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
DRAWING = ["python", "-m", "sfsc_vehicles"]
FEW_IMAGES = ["--train", "8", "--test", "3", "--shots", "1", "--workers", "1"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def run(words):
    if words[:3] == DRAWING:
        assert draw([*words[3:], *FEW_IMAGES]) == 0
        return
    assert words[0] == "sfsc-train"
    extra = ["--threads", "1", "--workers", "0"] if words[1] in ("train", "sweep") else []
    if words[2] in ("photos", "--from"):
        extra += ["--set", "optimiser.steps=2"]
    done = CliRunner().invoke(app, [*words[1:], *extra], catch_exceptions=False)
    assert done.exit_code == 0, (words, done.output)


def test_the_guide_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe, sweep = blocks("toml")
    for key, usual, few in (("steps", 400, 2), ("batch", 48, 8), ("dimension", 128, 16)):
        recipe = recipe.replace(f"{key} = {usual}", f"{key} = {few}")
    Path("toys.toml").write_text(recipe)
    Path("sweep.toml").write_text(sweep.replace("steps=400", "steps=2"))
    for line in "".join(blocks("sh")).splitlines():
        run(shlex.split(line.replace("optimiser.steps=800", "optimiser.steps=3")))
    assert open_bundle(Path("models/toys")).manifest.widths == ("0.25", "0.5", "0.75", "1.0")
    assert Path("report/index.html").is_file()
