"""Every file of the repository with one sentence, which is the first of what the file says of itself."""

import ast
import re
import subprocess
from pathlib import Path

__all__ = ["tree"]

ROOT = Path(__file__).parents[1]
# Folders that are described by one sentence.
FOLDERS = {
    "docker/lock": "What the images install, with hashes; `make lock` writes it.",
    "benchmarks/results": "What was measured, a JSON file per benchmark: command, commit, machine, seed, figures.",
    "models/demo": "The committed demo bundle, its gallery and its sample queries.",
    "service/sfsc_service/vendor": "Swagger UI, so that /docs works without a network.",
    "tests": "In the folders of what they test; tests/system: end to end, in a browser, in containers, docs.",
}
# Files that cannot say it themselves.
FILES = {
    "Makefile": "Sets up what it needs and runs tests, demo, benchmarks; `make help` lists the targets.",
    "pyproject.toml": "One distribution with extras; the settings of ruff, mypy, pytest and the import contracts.",
    "docker-compose.yml": "The demo gallery and Prometheus; profiles `dashboards`, `gpu`, `milvus`, `training`.",
    "README.md": "What this is and how to use it.",
    "CHANGELOG.md": "What changed, for users.",
    "CONTRIBUTING.md": "The rules of the house.",
}
# Nothing that ends in one of these ends a sentence.
_ABBREVIATION = re.compile(r"(?:\bet al|\be\.g|\bi\.e|\bcf|\bvs|\bno)$")
_END = re.compile(r"[.!?](?=\s+[A-Z`(]|$)")
_COMMENT = re.compile(r"\s*(?:#+(?!!)|//+|/\*+|\*(?= )|<!--)\s?(.*?)\s*(?:\*/|-->)?$")


def tree() -> str:
    """A list per folder: its path and what its package says, then each tracked or new file with its sentence."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    headings: dict[str, str] = {}
    folders: dict[str, list[str]] = {}
    for name in sorted(set(listed.stdout.splitlines())):
        if any(name.startswith(f"{folder}/") for folder in FOLDERS) or not (ROOT / name).is_file():
            continue
        sentence = sentence_of(ROOT / name)
        folder, _, file = name.rpartition("/")
        if file == "__init__.py":
            headings[folder] = f" — {sentence}"
        elif sentence:
            folders.setdefault(folder, []).append(f"- `{file}` — {sentence}")
    whole = [f"- `{folder}/` — {sentence}" for folder, sentence in FOLDERS.items()]
    parts = [
        "\n".join([f"**`{folder or '.'}`**{headings.get(folder, '')}", "", *folders.get(folder, [])]).rstrip()
        for folder in sorted(folders.keys() | headings.keys())
    ]
    return "\n\n".join([*parts, "**Described as a whole**\n\n" + "\n".join(whole)])


def sentence_of(path: Path) -> str:
    """The first sentence of a file's docstring, leading comment or first paragraph; empty where there is none."""
    name = path.relative_to(ROOT).as_posix()
    if name in FILES:
        return FILES[name]
    if path.suffix in (".png", ".json", ".typed") or path.name.startswith("."):
        return ""
    text = path.read_text(errors="ignore")
    if path.suffix == ".py":
        return first_sentence(ast.get_docstring(ast.parse(text)) or "")
    if path.suffix == ".md":
        return first_sentence("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return first_sentence(leading_comment(text))


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence, at most the first paragraph; closed by a full stop."""
    paragraph = " ".join(re.split(r"\n\s*\n|\n\s*[-*] |\n {4}", text.strip())[0].split())
    ends = (end for end in _END.finditer(paragraph) if not _ABBREVIATION.search(paragraph[: end.start()]))
    end = next(ends, None)
    sentence = paragraph[: end.start()] if end else paragraph
    return sentence.rstrip(".:;,") + "." if sentence else ""


def leading_comment(text: str) -> str:
    """The first comment that begins within the first four lines, without its marks."""
    lines = [line for line in text.splitlines() if not line.startswith(("#!", "<!doctype", "<!DOCTYPE"))]
    start = next((n for n, line in enumerate(lines[:4]) if _COMMENT.match(line)), None)
    if start is None:
        return ""
    kept = []
    for line in lines[start:]:
        found = _COMMENT.match(line)
        if found is None or not found[1]:
            break
        kept.append(found[1])
    return "\n".join(kept)
