"""docs/api.md is true: its commands run in order against the demo bundle, and responses look as they are shown."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.settings import Settings
from tests.service.live import running

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "models" / "demo"
ADDRESS = "http://127.0.0.1:8000"
BLOCK = re.compile(r"```(sh|python)\n(.*?)```\n(?:```json\n(.*?)```)?", re.DOTALL)
MEASURED = {"timing_ms", "score", "embedding"}
ELIDED = "…"


def same(shown: Any, found: Any, place: str = "response") -> None:
    """Compare what the page shows with what was found; measured numbers only by their names."""
    match shown:
        case dict():
            assert set(shown) == set(found), place
            for name, value in shown.items():
                if name == "timing_ms":
                    assert set(value) == set(found[name]), place
                elif name not in MEASURED:
                    same(value, found[name], f"{place}.{name}")
        case list():
            assert len(shown) == len(found), place
            for at, value in enumerate(shown):
                same(value, found[at], f"{place}[{at}]")
        case _:
            assert shown in (found, ELIDED), place


def test_commands_run_and_responses_are_as_shown(tmp_path: Path) -> None:
    images = sorted((DEMO / "gallery").glob("v1000000_*.jpg"))
    for name, image in zip(("a.jpg", "b.jpg"), images, strict=False):
        (tmp_path / name).write_bytes(image.read_bytes())
    (tmp_path / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    blocks = BLOCK.findall((ROOT / "docs" / "api.md").read_text())
    assert sum(shown != "" for _, _, shown in blocks) >= 9
    with running(Settings(bundle=DEMO, data=tmp_path / "data", port=0, threads=2)) as live:
        for language, code, shown in blocks:
            code = code.replace(ADDRESS, live.url)
            words = (
                [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
            )
            done = subprocess.run(
                words,
                cwd=tmp_path,
                env=os.environ | {"HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
            if shown:
                same(json.loads(shown), json.loads(done.stdout))


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ([{"score": 1, "id": "x"}], [{"score": 2, "id": "y"}]),
        ({"timing_ms": {"total": 1}}, {"timing_ms": {"queue": 1}}),
        ([1], [1, 2]),
    ],
)
def test_what_differs_is_found(shown: Any, found: Any) -> None:
    with pytest.raises(AssertionError):
        same(shown, found)
