"""Finished runs as one document each: matrices, cost, curves and everything needed to repeat them."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sfsc_training.checkpoint import read_recipe
from sfsc_training.config import Recipe, parse_recipe
from sfsc_training.errors import CheckpointError, RecipeError

__all__ = ["Result", "read_history", "read_result", "versions"]

_CURVE_POINTS = 100


@dataclass(frozen=True, slots=True)
class Result:
    """One run: its recipe, its evaluation (see `evaluation.report`, with `cost`), its logged steps."""

    recipe: Recipe
    evaluation: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]

    @property
    def mean_ap(self) -> list[list[float]]:
        """m×m, rows are query widths."""
        return [list(row) for row in self.evaluation["mean_ap"]]

    @property
    def macs(self) -> list[int]:
        """Multiply-accumulates of an image by width, ascending."""
        return [self.evaluation["cost"]["macs"][width] for width in self.recipe.width_names]

    @property
    def mean(self) -> float:
        """Mean of the matrix."""
        cells = [value for row in self.mean_ap for value in row]
        return sum(cells) / len(cells)


def read_result(path: Path, split: str = "test") -> Result:
    """Read a run folder that was evaluated, or the JSON of a sweep.

    Raises:
        CheckpointError: it is neither, or the run was not evaluated on this split.
    """
    try:
        if path.is_file():
            data = json.loads(path.read_text())["data"]
            return Result(parse_recipe(data["recipe"], str(path)), data["evaluation"], data["history"])
        evaluation = json.loads((path / f"evaluation-{split}.json").read_text())
        evaluation["cost"]  # written by `evaluate`; older files lack it
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} has no {split} evaluation: run sfsc-train evaluate first") from error
    except (OSError, ValueError, KeyError, TypeError, RecipeError) as error:
        raise CheckpointError(f"{path} is no result of this version ({error}): evaluate the run again") from error
    return Result(read_recipe(path), evaluation, read_history(path))


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The logged steps of a run, thinned to about 100; a step logged twice counts as the later one."""
    path = folder / "history.jsonl"
    found: dict[int, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the line that a cut-off run was writing
        found[entry["step"]] = entry
    ordered = [found[step] for step in sorted(found)]
    stride = -(-len(ordered) // _CURVE_POINTS) if ordered else 1
    return ordered[::stride]


def versions() -> dict[str, str]:
    """Versions of what decides the arithmetic."""
    packages = ("sfsc", "torch", "torchvision", "timm", "numpy", "Pillow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
