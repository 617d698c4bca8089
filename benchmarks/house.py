"""What of the house can be counted: statements, files, functions, first-level rooms, contracts, the README.

    python benchmarks/house.py                        # this checkout
    python benchmarks/house.py --against ../before    # statements of the service beside another checkout's
    python benchmarks/house.py --dry                  # writes nothing

A statement is a node of the syntax tree, docstrings apart, so that neither layout nor comments count.
"""

import argparse
import ast
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from checkout import ROOT, Checkout
from result_file import Figure, write_result

__all__ = ["Source", "contracts", "figures_of", "read_sources", "rooms"]

SERVICE = "service/sfsc_service"
PACKAGES = (SERVICE, "bundle/sfsc_bundle", "training/sfsc_training", "vehicles/sfsc_vehicles")
SCREEN = 24
"""Lines of a terminal that nobody has made larger."""


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file and its syntax tree."""

    path: Path
    lines: int
    tree: ast.Module

    @property
    def statements(self) -> int:
        """Statements in it, docstrings apart."""
        return sum(isinstance(node, ast.stmt) and not _is_text(node) for node in ast.walk(self.tree))

    @property
    def functions(self) -> list[int]:
        """Lines of each function, from `def` to its end."""
        functions = (n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
        return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]

    @property
    def classes(self) -> list[str]:
        """Names of its classes without the underscore of a private one."""
        return [node.name.lstrip("_") for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)]


def main() -> None:
    """Count, print and write benchmarks/results/house.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another working tree of this repository")
    parser.add_argument("--dry", action="store_true", help="print only")
    arguments = parser.parse_args()
    figures = figures_of(ROOT)
    if arguments.against is not None:
        figures.insert(1, compared(ROOT, arguments.against))
    for figure in figures:
        print(f"{figure.name:60} {figure.value:8g} {figure.unit:12} {figure.goal or '':8} {figure.met}")
    if not arguments.dry:
        files = {str(source.path.relative_to(ROOT)): source.lines for source in read_sources(ROOT, PACKAGES)}
        longest = dict(sorted(files.items(), key=lambda file: -file[1])[:10])
        data = {"longest files": longest, "classes of one name": repeated_classes(ROOT)}
        print("written to", write_result("house", figures, data))


def figures_of(root: Path) -> list[Figure]:
    """Every count of one checkout; files and functions are those of the four packages."""
    sources = list(read_sources(root, PACKAGES))
    service = [source for source in sources if source.path.is_relative_to(root / SERVICE)]
    files, functions = [source.lines for source in sources], [n for source in sources for n in source.functions]
    layers = [found for found in contracts(root) if found["type"] == "layers"]
    excepted = [found for found in contracts(root) if found.get("ignore_imports")]
    return [
        Figure("statements of the service", sum(source.statements for source in service), "statements"),
        Figure("first-level packages and modules of the service", len(rooms(root / SERVICE)), "rooms", "<= 12"),
        Figure("names that two classes of the service have", len(repeated_classes(root)), "names", "<= 0"),
        Figure("files of more than 400 lines", sum(lines > 400 for lines in files), "files", "<= 0"),
        Figure("lines of a file, median", median(files), "lines", "<= 150"),
        Figure("functions of more than 80 lines", sum(lines > 80 for lines in functions), "functions", "<= 0"),
        Figure("lines of a function, median", median(functions), "lines", "<= 10"),
        Figure("lines of the README", len((root / "README.md").read_text().splitlines()), "lines", "<= 200"),
        Figure("import contracts with exceptions", len(excepted), "contracts", "<= 0"),
        Figure(
            "layers of the longest import contract",
            max(len(c["layers"]) for c in layers),
            "layers",
            f"<= {SCREEN}",
        ),
    ]


def compared(root: Path, other: Path) -> Figure:
    """How many statements more the service has than another checkout's."""
    here, there = (sum(source.statements for source in read_sources(top, [SERVICE])) for top in (root, other))
    name = f"statements of the service, this − {Checkout(other).commit}"
    return Figure(name, here - there, "statements", "<= 0")


def read_sources(root: Path, folders: tuple[str, ...] | list[str]) -> Iterator[Source]:
    """Every Python file below the folders, in order; a folder that is not there holds none."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text()
            yield Source(path, len(text.splitlines()), ast.parse(text))


def rooms(package: Path) -> list[str]:
    """Names of the packages, folders and modules directly in a package."""
    inside = (path for path in package.iterdir() if path.is_dir() or path.suffix == ".py")
    return sorted(path.stem for path in inside if not path.name.startswith("__"))


def repeated_classes(root: Path) -> list[str]:
    """Names that two or more classes of the service have."""
    names = Counter(name for source in read_sources(root, [SERVICE]) for name in source.classes)
    return sorted(name for name, count in names.items() if count > 1)


def contracts(root: Path) -> list[dict[str, Any]]:
    """Import-linter's contracts of a checkout."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    found: list[dict[str, Any]] = project["tool"]["importlinter"]["contracts"]
    return found


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )


if __name__ == "__main__":
    main()
