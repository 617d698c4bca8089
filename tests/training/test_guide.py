"""docs/training.md is a how-to: its recipe is valid and its commands run as written, with fewer steps."""

import re
import subprocess
import sys
from pathlib import Path

from sfsc_bundle.folder import open_bundle

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
BIN = Path(sys.executable).parent


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_guide_runs_as_written(tmp_path):
    recipe, sweep = blocks("toml")
    (tmp_path / "toys.toml").write_text(
        recipe.replace("steps = 400", "steps = 2").replace("batch = 48", "batch = 8")
    )
    (tmp_path / "sweep.toml").write_text(sweep.replace("steps=400", "steps=2"))
    script = "\n".join(blocks("sh")).replace("--train 40 --test 20 --shots 2", "--train 8 --test 3 --shots 1")
    script = script.replace("optimiser.steps=800", "optimiser.steps=3")
    script = re.sub(r"(sfsc-train (?:train|sweep) .*)", r"\1 --threads 1 --workers 0", script)
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert open_bundle(tmp_path / "models" / "toys").manifest.widths == ("0.25", "0.5", "0.75", "1.0")
    assert (tmp_path / "report" / "index.html").is_file()
