"""What the documentation says is so: generated blocks are current, commands and code blocks run as written."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from live_service import serving

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(start: str) -> list[str]:
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    return [line.partition("  #")[0].strip() for line in lines if line.startswith(start)]


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False
    )


def test_generated_blocks_are_current():
    found = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr


def test_every_link_and_image_exists():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = set(re.findall(r"make ([a-z-]+)", README))
    assert wanted
    assert wanted <= targets


@pytest.mark.parametrize("page", ["docs/bundle.md"])
def test_python_blocks_run(page):
    found = blocks((ROOT / page).read_text(), "python")
    assert found
    for code in found:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr


@pytest.mark.data
def test_the_readmes_training_commands_run_as_written(image_set, tmp_path):
    pytest.importorskip("torch", reason="the training extra is not installed")
    data = image_set("omniglot28", identities=12)
    lines = commands("sfsc-train")
    assert [shlex.split(line)[1] for line in lines] == ["recipes", "train", "evaluate", "export"]
    for line in lines:
        short = " --set optimiser.steps=2 --set optimiser.warmup_steps=0" if " train " in line else ""
        done = run(line.replace("DATA", str(data)) + short, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (tmp_path / "models" / "mine" / "manifest.json").is_file()


def test_the_readmes_requests_are_answered(tmp_path):
    images = sorted((ROOT / "models" / "demo" / "gallery").glob("*.jpg"))
    for name, image in zip(("a.jpg", "b.jpg"), images, strict=False):
        (tmp_path / name).write_bytes(image.read_bytes())
    lines = commands("curl")
    assert len(lines) >= 4
    with serving(ROOT / "models" / "demo", tmp_path, 10) as client:
        for line in lines:
            done = run(
                line.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/")) + " --fail -s", tmp_path
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            assert '"0.25"' in done.stdout or '"width"' in done.stdout
