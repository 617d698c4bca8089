"""The file tree of the README: one line per file, from what each file says of itself in its first line."""

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Folders of which one line is enough.
FOLDERS = {
    "benchmarks/results": "what was measured, one JSON per benchmark: command, commit, machine, seed, figures",
    "models/demo": "the committed demo bundle, its gallery and sample queries",
    "service/sfsc_service/vendor": "Swagger's files, so that /docs works offline",
    "tests": "mirrors the packages; tests/system: end to end, the page in a browser, containers, docs",
}
SAID = {
    "Makefile": "test, demo, lint, figures, main-job",
    "pyproject.toml": "one distribution with extras; ruff, mypy, pytest and import-linter settings",
    "docker-compose.yml": "demo gallery and Prometheus; profiles gpu and training",
    "README.md": "this page",
}


def tree() -> str:
    """Every tracked or new file that git does not ignore, with its line."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines: dict[str, str] = {}
    for name in sorted(set(listed.stdout.splitlines())):
        folder = next((folder for folder in FOLDERS if name.startswith(folder + "/")), None)
        path = ROOT / name
        if folder:
            lines[folder + "/"] = FOLDERS[folder]
        elif path.is_file() and path.stat().st_size and said(path):
            lines[name] = said(path)
    width = max(len(name) for name in lines)
    return "\n".join(f"{name:{width}}  {line}" for name, line in lines.items())


def said(path: Path) -> str:
    """The first line of a file's docstring, comment or heading; empty where there is none worth a line."""
    name = path.relative_to(ROOT).as_posix()
    if name in SAID:
        return SAID[name]
    if path.suffix == ".py":
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        return re.split(r"(?<=\w)[.:;] |\.?\n", docstring + "\n")[0].rstrip(".")
    if path.suffix in (".png", ".json", ".typed") or path.name.startswith("."):
        return ""
    for line in path.read_text(errors="ignore").splitlines()[:4]:
        found = re.match(r"\s*(?:#+|//|/\*+|<!--)\s*(?!!|/bin)([\w`].*?)\s*(?:\*/|-->)?$", line)
        if found:
            return found.group(1)
    return ""
