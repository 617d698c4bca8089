"""The counts of benchmarks/house.py are right on a tree whose counts are known, and this house keeps its goals."""

from pathlib import Path

import pytest

from house import SERVICE, figures_of, read_sources, repeated_classes, rooms

ROOT = Path(__file__).parents[2]

MODULE = '''"""Four statements and two docstrings."""

class Room:
    """Nothing in it."""

    def open(self):
        # a comment
        if self:
            return "text"
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A service of one package with a module of MODULE, and a module beside it."""
    package = tmp_path / SERVICE
    (package / "http").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Empty."""\n')
    (package / "http" / "__init__.py").write_text("")
    (package / "http" / "app.py").write_text(MODULE)
    (package / "errors.py").write_text("class _Room:\n    pass\n" + "\n" * 399)
    (tmp_path / "README.md").write_text("line\n" * 201)
    (tmp_path / "pyproject.toml").write_text(
        "[[tool.importlinter.contracts]]\n"
        'type = "layers"\nlayers = ["http", "errors"]\nignore_imports = ["a -> b"]\n'
    )
    return tmp_path


def test_counts_of_a_known_tree(tree):
    counts = {figure.name: (figure.value, figure.met) for figure in figures_of(tree)}
    assert counts == {
        "statements of the service": (6, None),
        "first-level packages and modules of the service": (2, True),
        "names that two classes of the service have": (1, False),
        "files of more than 400 lines": (1, False),
        "lines of a file, median": (5, True),
        "functions of more than 80 lines": (0, True),
        "lines of a function, median": (4, True),
        "lines of the README": (201, False),
        "import contracts with exceptions": (1, False),
        "layers of the longest import contract": (2, True),
    }
    assert rooms(tree / SERVICE) == ["errors", "http"]
    assert repeated_classes(tree) == ["Room"]
    statements = {source.path.name: source.statements for source in read_sources(tree, [SERVICE])}
    assert statements == {"__init__.py": 0, "app.py": 4, "errors.py": 2}


def test_this_house_keeps_its_goals():
    assert [f"{figure.name}: {figure.value:g}" for figure in figures_of(ROOT) if figure.met is False] == []
