"""The result of a run, from its folder or from the JSON of a sweep."""

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
from sfsc_training.history import read_history

__all__ = ["Result", "read_result", "versions"]


@dataclass(frozen=True, slots=True)
class Result:
    """A run's recipe, its evaluation (as `evaluation.report` makes it, with `cost`), and its logged steps.

    `raw`: the evaluation without the run's alignment; None where there is none.
    """

    recipe: Recipe
    evaluation: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    raw: Mapping[str, Any] | None = None

    @property
    def mean_ap(self) -> list[list[float]]:
        """mAP in points, [m][m]; rows are query widths."""
        return [list(row) for row in self.evaluation["mean_ap"]]

    @property
    def mixed(self) -> Mapping[str, Any] | None:
        """Scores against galleries of mixed widths; None in an evaluation of an earlier version."""
        found: Mapping[str, Any] | None = self.evaluation.get("mixed_gallery")
        return found

    @property
    def untouched(self) -> Mapping[str, Any] | None:
        """Scores of the untouched network; None for a run that began from none, and in earlier versions."""
        found: Mapping[str, Any] | None = self.evaluation.get("untouched")
        return found

    @property
    def bundle_differs(self) -> str | None:
        """A sentence where `export` writes other figures; None where not, and in sweeps, which export nothing."""
        found: str | None = self.evaluation.get("bundle_differs")
        return found

    @property
    def training_macs(self) -> int | None:
        """Multiply-accumulates of the training and of those before it; None in earlier versions."""
        found = self.evaluation.get("arithmetic")
        return None if found is None else sum(found.values())

    @property
    def macs(self) -> list[int]:
        """Multiply-accumulates per image of each width, ascending."""
        return [self.evaluation["cost"]["macs"][width] for width in self.recipe.width_names]

    @property
    def mean(self) -> float:
        """Mean of the matrix of mAP."""
        cells = [value for row in self.mean_ap for value in row]
        return sum(cells) / len(cells)


def read_result(path: Path, split: str = "test") -> Result:
    """Read an evaluated run folder, one evaluation in it, or the JSON of a sweep.

    Raises:
        CheckpointError: it is none of them, or the run was not evaluated on this split.
    """
    try:
        if path.is_file() and (path.parent / "recipe.json").exists():
            evaluation = json.loads(path.read_text())
            evaluation["cost"]
            return Result(read_recipe(path.parent), evaluation, read_history(path.parent))
        if path.is_file():
            data = json.loads(path.read_text())["data"]
            recipe = parse_recipe(data["recipe"], str(path))
            return Result(recipe, data["evaluation"], data["history"], data.get("raw"))
        evaluation = json.loads((path / f"evaluation-{split}.json").read_text())
        unaligned = path / f"evaluation-{split}-raw.json"
        raw = json.loads(unaligned.read_text()) if unaligned.exists() else None
        evaluation["cost"]  # written by `evaluate`; older files lack it
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} has no {split} evaluation; run sfsc-train evaluate first") from error
    except (OSError, ValueError, KeyError, TypeError, RecipeError) as error:
        raise CheckpointError(
            f"{path} is not a result of this version ({error}); evaluate the run again"
        ) from error
    return Result(read_recipe(path), evaluation, read_history(path), raw)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the arithmetic."""
    packages = ("sfsc", "torch", "torchvision", "timm", "numpy", "Pillow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
