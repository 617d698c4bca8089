"""What the documentation states: generated blocks are current, and what a page names exists."""

import ast
import fnmatch
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from docs.tree import first_sentence, leading_comment

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README_LINES = 200
GENERATED = ["settings", "metrics", "routes", "codes", "layers", "tree", "goals", "demo-matrix"]
# A file of the repository between backticks, alone or with a test in it: `store/protocol.py`, `test_x.py::test_y`.
NAMED_FILE = re.compile(r"`([\w./*-]+\.(?:py|toml|md|sh|yml|lua))(?:::(\w+))?`")
SAVED_BY_THE_READER = re.compile(r"Save this as `([\w.]+)`")
GENERATED_BLOCK = re.compile(r"<!-- generated: [\w-]+ -->.*?<!-- /generated -->", re.DOTALL)
SENTENCES = {
    "κ: the classifier through which the widths meet (method §1). It is shared.": (
        "κ: the classifier through which the widths meet (method §1)."
    ),
    "Export: every width\ninto a static module.\n\nMore.": "Export: every width into a static module.",
    "Fixed vectors (Pernici et al. 2021). They stand still.": "Fixed vectors (Pernici et al. 2021).",
    "PCGrad, Yu et al. Gradient Surgery": "PCGrad, Yu et al. Gradient Surgery.",
    "Version 1.0.31 of `timm`, e.g. ResNet": "Version 1.0.31 of `timm`, e.g. ResNet.",
    "What may happen:\n- this\n- that": "What may happen.",
    "": "",
}
COMMENTS = {
    "#!/usr/bin/env bash\n# The whole\n# check.\n\n# Not this.\n": "The whole\ncheck.",
    "/* The page's frame */\n*, *::before { margin: 0 }\n": "The page's frame",
    "name = 'x'\n": "",
}
# This project is on no package index, where anybody could take its name.
FROM_AN_INDEX = re.compile(r"""\bsfsc\[[a-z]|pip install (?:-\S+ )*['"]?sfsc\b""")
ADDRESS = re.compile(r"\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def anchors(page: Path) -> set[str]:
    """What a link may point to within a page, as GitHub derives it from the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing_links(page: Path) -> list[str]:
    missing = []
    for address in ADDRESS.findall(page.read_text()):
        path, _, anchor = address.partition("#")
        target = page.parent / path if path else page
        if "://" not in address and not (target.exists() and (not anchor or anchor in anchors(target))):
            missing.append(address)
    return missing


def missing_files(text: str) -> list[str]:
    """The named files that no path of the repository ends in, and named tests that their file does not define."""
    missing = []
    saved = SAVED_BY_THE_READER.findall(text)
    for path, test in NAMED_FILE.findall(text):
        found = [name for name in tracked() if fnmatch.fnmatchcase(f"/{name}", f"*/{path}")]
        if path in saved:
            continue
        if not found or (test and not any(defines(ROOT / name, test) for name in found)):
            missing.append(f"{path}::{test}" if test else path)
    return missing


def defines(path: Path, test: str) -> bool:
    return any(
        isinstance(node, ast.FunctionDef) and node.name == test for node in ast.parse(path.read_text()).body
    )


def test_generated_blocks_are_current_and_every_table_is_used():
    found = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("block", GENERATED)
def test_what_is_known_from_code_or_results_is_generated(block: str):
    assert any(f"<!-- generated: {block} -->" in page.read_text() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path):
    assert not missing_links(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_exists(page: Path):
    assert not missing_files(GENERATED_BLOCK.sub("", page.read_text()))


def test_a_file_or_a_test_that_does_not_exist_is_found():
    here = "`tests/system/test_docs.py`, `test_docs.py::test_a_file_or_a_test_that_does_not_exist_is_found`"
    assert missing_files(here) == []
    assert missing_files("Save this as `mine.toml`. Then `mine.toml` is read.") == []
    assert missing_files(f"{here} `routes/direct.py` `test_docs.py::test_of_something`") == [
        "routes/direct.py",
        "test_docs.py::test_of_something",
    ]


def test_a_link_to_a_missing_page_or_heading_is_found(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One heading, two words\n[a](#one-heading-two-words) [b](page.md#gone) [c](gone.md) [d](x://y)\n"
    )
    assert missing_links(page) == ["page.md#gone", "gone.md"]


def test_nothing_says_to_install_this_project_from_a_package_index():
    assert FROM_AN_INDEX.search("pip install --quiet 'sfsc'")
    assert FROM_AN_INDEX.search("the extra sfsc[gpu]")
    texts = [ROOT / name for name in tracked() if not name.startswith(("benchmarks/results/", "models/"))]
    assert [
        name_of(path)
        for path in texts
        if path != Path(__file__) and FROM_AN_INDEX.search(path.read_bytes().decode(errors="replace"))
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_that_a_page_names_exists(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE))
    assert named <= targets


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("text", SENTENCES)
def test_a_file_is_listed_with_its_whole_first_sentence(text: str):
    assert first_sentence(text) == SENTENCES[text]


@pytest.mark.parametrize("text", COMMENTS)
def test_the_leading_comment_of_a_file_is_read_to_its_end(text: str):
    assert leading_comment(text) == COMMENTS[text]


def test_a_result_says_nothing_of_where_it_was_measured_but_the_machine() -> None:
    """A folder of somebody's machine cannot be repeated by anybody else."""
    named = re.compile(r'(?:^|[\s"=])/(?:home|root|tmp|work|mnt|Users)/', re.MULTILINE)
    files = sorted((ROOT / "benchmarks" / "results").rglob("*.json"))
    assert files
    assert not [file.name for file in files if named.search(file.read_text())]
