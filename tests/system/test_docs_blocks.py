"""Every `sh` and `python` block of the README and of docs/ is run, in the order of its page.

A page is run in a folder with what a visitor has at hand: the demo bundle at `models/demo`, the images `a.jpg` and
`b.jpg` of one vehicle by two cameras, and `photos/IDENTITY/IMAGE`, eight vehicles in colour. At
`http://127.0.0.1:8000`, where commands look as well, answers the service that the page started last, else one with
the demo bundle and an empty gallery. Training runs two steps of two widths.

A `json` block right after another shows its answer: names and values must be the same, `…` stands for any value,
and of what is measured (`score`, `embedding`, `timing_ms`) only the names are compared.

Marks in the line that opens a block: `background` for one command that serves until it is stopped, and
`no-run (REASON)`.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

import httpx
import pytest

from live_service import free_port, wait_ready
from sfsc_vehicles.dataset import write_dataset

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(page.relative_to(ROOT).as_posix() for page in sorted((ROOT / "docs").glob("*.md")))]
OWN_TESTS = {"docs/training.md": "tests/training/test_guide.py"}  # one recipe from its text to a sweep's report
BIN = Path(sys.executable).parent
ADDRESS = "http://127.0.0.1:8000"
FENCE = re.compile(r"^ *```(\w+)([^\n]*)\n(.*?)^ *```\n", re.MULTILINE | re.DOTALL)
MEASURED = {"score", "embedding", "timing_ms"}
ANY = "…"
NO_RUN = re.compile(r"no-run \(.{5,}\)")
TIMEOUT_S = 250
SHORT = "--set optimiser.steps=2 --set optimiser.warmup_steps=0 --set 'widths=[0.25, 1.0]'"
SHELL = f"""
sfsc-train() {{ if [ "$1" = train ]; then command sfsc-train "$@" {SHORT}; else command sfsc-train "$@"; fi; }}
"""
# Every answer on a line of its own, and an error of the service fails the block.
CURL = 'silent\nshow-error\nfail-with-body\nwrite-out = "\\n"\n'


@dataclass(frozen=True, slots=True)
class Block:
    """Code, and the answer that the page shows of it."""

    language: str
    mark: str
    code: str
    shown: str = ""

    @property
    def runs(self) -> bool:
        return not self.mark.startswith("no-run")


def blocks_of(text: str) -> list[Block]:
    blocks: list[Block] = []
    end = -1
    for found in FENCE.finditer(text):
        language, mark, code = found.groups()
        if language in ("sh", "python"):
            blocks.append(Block(language, mark.strip(), code))
        elif language == "json" and found.start() == end:
            blocks[-1] = replace(blocks[-1], shown=code)
        end = found.end()
    return blocks


def assert_as_shown(shown: Any, found: Any, place: str = "the answer") -> None:
    """Compare the answer on a page with the one that came."""
    match shown:
        case dict():
            assert isinstance(found, dict), place
            assert set(shown) == set(found), place
            for name, value in shown.items():
                if name not in MEASURED:
                    assert_as_shown(value, found[name], f"{place}: {name}")
                elif isinstance(value, dict):
                    assert set(value) == set(found[name]), f"{place}: {name}"
        case list():
            assert isinstance(found, list), place
            assert len(shown) == len(found), place
            for position, value in enumerate(shown):
                assert_as_shown(value, found[position], f"{place}[{position}]")
        case _:
            assert shown in (found, ANY), place


class Visitor:
    """Types the blocks of one page, one after the other, in one folder. To be closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._services = ExitStack()
        self._url: str | None = None
        self._environment = os.environ | {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
            "HOME": str(folder),
        }

    def close(self) -> None:
        self._services.close()

    def type(self, block: Block) -> str:
        """Run one block; returns what it printed."""
        if block.mark == "background":
            self._serve(block.code)
            return ""
        code = block.code
        if ADDRESS in code:
            if self._url is None:
                self._serve("sfsc serve models/demo --data data/for-the-page")
            code = code.replace(ADDRESS, str(self._url))
        words = [sys.executable, "-c", code] if block.language == "python" else bash(SHELL + code)
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self._environment if self._url is None else self._environment | {"SFSC_URL": self._url},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
        if block.shown:
            assert_as_shown(json.loads(block.shown), json.loads(done.stdout))
        return done.stdout

    def _serve(self, command: str) -> None:
        self._services.close()
        self._url = self._services.enter_context(self._served(command))

    @contextmanager
    def _served(self, command: str) -> Iterator[str]:
        port = free_port()
        environment = self._environment | {"SFSC_PORT": str(port)}
        url = f"http://127.0.0.1:{port}"
        with TemporaryFile("w+") as said:
            server = subprocess.Popen(bash(f"exec {command}"), cwd=self.folder, env=environment, stdout=said)
            try:
                with httpx.Client(base_url=url, timeout=60) as client:
                    wait_ready(client, server, limit_s=TIMEOUT_S)
                if command.startswith("sfsc demo"):
                    _wait_for(f"open {url}", said)  # its gallery is loaded then
                yield url
            finally:
                server.terminate()
                server.wait(60)


def _wait_for(line: str, said: IO[str]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while line not in os.pread(said.fileno(), 1 << 20, 0).decode():
        assert time.monotonic() < end, f"a demo has not said {line!r}"
        time.sleep(0.1)


def bash(code: str) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", code]


@pytest.fixture(scope="module")
def typed() -> Iterator[object]:
    """`typed(page)`: what each block of a page printed; a page is run once."""
    with ExitStack() as folders:

        @cache
        def run(page: str) -> list[tuple[Block, str]]:
            folder = Path(folders.enter_context(TemporaryDirectory(prefix="docs-")))
            furnish(folder)
            visitor = Visitor(folder)
            try:
                blocks = [block for block in blocks_of((ROOT / page).read_text()) if block.runs]
                return [(block, visitor.type(block)) for block in blocks]
            finally:
                visitor.close()

        yield run


def furnish(folder: Path) -> None:
    """Everything of the repository by its name, but `models`, `runs` and `data` are the folder's own."""
    for path in ROOT.iterdir():
        if path.name not in ("models", "runs", "data"):
            (folder / path.name).symlink_to(path)
    (folder / "models").mkdir()
    (folder / "models" / "demo").symlink_to(ROOT / "models" / "demo")
    write_dataset(folder, seed=0, identities=8, shots=1, size=64, split="photos", twin_share=0.0)
    vehicle = sorted((folder / "photos").iterdir())[0]
    for name, source in (("a.jpg", "c1s1.jpg"), ("b.jpg", "c2s1.jpg")):
        (folder / name).write_bytes((vehicle / source).read_bytes())
    (folder / ".curlrc").write_text(CURL)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_blocks_and_each_runs_or_says_why_not(page: str):
    blocks = blocks_of((ROOT / page).read_text())
    assert any(block.runs for block in blocks)
    for block in blocks:
        assert block.mark in ("", "background") or NO_RUN.fullmatch(block.mark), block.mark


@pytest.mark.parametrize("page", OWN_TESTS)
def test_a_page_that_is_not_run_here_has_a_test_of_its_own(page: str):
    assert Path(page).name in (ROOT / OWN_TESTS[page]).read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if page not in OWN_TESTS])
def test_the_blocks_of_a_page_run(page: str, typed):
    text = (ROOT / page).read_text()
    if "sfsc-train" in text or "sfsc_training" in text:
        pytest.importorskip("torch", reason="the training extra is not installed")
    typed(page)


def test_a_block_that_fails_is_found(tmp_path: Path):
    visitor = Visitor(tmp_path)
    for block in (
        Block("sh", "", "false\ntrue\n"),
        Block("sh", "", "false | cat"),
        Block("python", "", "assert 0"),
    ):
        with pytest.raises(AssertionError):
            visitor.type(block)


ANSWER = {"id": "a", "hits": [{"id": "b", "score": 0.5, "timing_ms": {"total": 1}}]}
OTHERS = {
    "another value": ANSWER | {"id": "b"},
    "a name more": ANSWER | {"more": 1},
    "a name less": {"id": "a"},
    "a hit more": ANSWER | {"hits": [*ANSWER["hits"], {}]},
    "no list": ANSWER | {"hits": None},
    "other times": ANSWER | {"hits": [{"id": "b", "score": 0.5, "timing_ms": {"queue": 1}}]},
}


@pytest.mark.parametrize("other", OTHERS)
def test_an_answer_that_is_not_as_shown_is_found(other: str):
    assert_as_shown(ANSWER, {"id": "a", "hits": [{"id": "b", "score": 0.7, "timing_ms": {"total": 2}}]})
    assert_as_shown(ANSWER | {"id": "…"}, ANSWER)
    with pytest.raises(AssertionError):
        assert_as_shown(ANSWER, OTHERS[other])


def test_a_json_block_belongs_to_the_block_right_before_it():
    text = "```sh\na\n```\n```json\n1\n```\n\n```json\n2\n```\n```python no-run (reason)\nb\n```\n"
    assert blocks_of(text) == [Block("sh", "", "a\n", "1\n"), Block("python", "no-run (reason)", "b\n")]


def test_the_readmes_calls_are_answered_as_it_says(typed):
    pytest.importorskip("torch", reason="the training extra is not installed")
    client, put, search, others = ((block, out) for block, out in typed("README.md") if ADDRESS in block.code)
    assert client[0].language == "python"
    assert re.fullmatch(r"0\.25 \[\('car-1', '1\.0', 0\.\d+\)\]\n", client[1])
    replaced = json.loads(put[1])
    assert {name: replaced[name] for name in ("id", "width", "reason", "created")} == {
        "id": "car-1",
        "width": "1.0",
        "reason": "requested",
        "created": False,
    }
    assert search[0].shown
    in_time, embedded = map(json.loads, others[1].splitlines())
    assert in_time["query"]["width"] in {"0.25", "0.5", "0.75", "1.0"}
    assert in_time["query"]["reason"] in {"budget", "load"}
    assert [hit["id"] for hit in in_time["hits"]] == ["car-1"]
    (result,) = embedded["results"]
    assert (result["width"], result["reason"]) == ("0.25", "requested")
    assert len(result["embedding"]) == embedded["dim"]


def test_the_readmes_own_images_are_served_without_training(typed):
    pytest.importorskip("torch", reason="the training extra is not installed")
    (added,) = (out for block, out in typed("README.md") if "sfsc add photos" in block.code)
    counts, *found = added.splitlines()
    assert counts == "added 0, replaced 0, unchanged 48, removed 0, left out 0"
    # Cells of the table break where they must.
    assert '"added_from":"photos"' in re.sub(r"[\s│]", "", "".join(found))


def test_the_readmes_training_makes_a_bundle_that_is_served(typed):
    pytest.importorskip("torch", reason="the training extra is not installed")
    outputs = {block.code: out for block, out in typed("README.md")}
    (training,) = (out for code, out in outputs.items() if code.startswith("sfsc-train"))
    plan = " ".join(training.split())
    assert "mine: 48 images of 8 identities in photos → runs/mine" in plan
    assert "train 24 images of 4 identities" in plan
    assert "query \\ gallery" in training
    assert "next: sfsc serve models/mine" in " ".join(training.split())  # lines are wrapped to the terminal
    assert any("sfsc serve models/mine" in code for code in outputs)
