"""The code of a checkout, run in this environment: how its commands start, and which commit it is."""

import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Checkout"]

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Checkout:
    """A working tree of this repository, at whatever commit."""

    folder: Path = ROOT

    @property
    def commit(self) -> str:
        """The commit, with `-dirty` where files differ from it."""
        words = ["git", "-C", str(self.folder), "describe", "--always", "--dirty"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    @property
    def python_path(self) -> str:
        """PYTHONPATH that puts this tree's packages before those installed in the environment."""
        hatch = self._project["tool"]["hatch"]["build"]
        return ":".join(str(self.folder.resolve() / name) for name in hatch["dev-mode-dirs"])

    def command(self, name: str) -> list[str]:
        """The words that start a command of `[project.scripts]`; they need `python_path`.

        Raises:
            SystemExit: the environment would run other code than this tree's.
        """
        entry: str = self._project["project"]["scripts"][name]
        module, function = entry.split(":")
        self._check_origin(module.partition(".")[0])
        return [sys.executable, "-c", f"from {module} import {function}; {function}()"]

    @property
    def _project(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text())

    def _check_origin(self, package: str) -> None:
        words = [sys.executable, "-c", f"import {package}; print({package}.__file__)"]
        done = subprocess.run(words, env={"PYTHONPATH": self.python_path}, capture_output=True, text=True)
        if not done.stdout.startswith(str(self.folder.resolve())):
            sys.exit(f"{package} must come from {self.folder}, found {done.stdout.strip() or done.stderr}")
