"""RUN/arithmetic.json: what the training of a run took, and the trainings before it that it built on."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from sfsc_training.arithmetic import training_arithmetic
from sfsc_training.checkpoint import read_recipe, write_json
from sfsc_training.errors import CheckpointError
from sfsc_training.run import Run

__all__ = ["RunArithmetic", "read_arithmetic", "write_arithmetic"]


class RunArithmetic(BaseModel):
    """Multiply-accumulates; `trained`, `taught`: see `Arithmetic`; `earlier`: of its teacher and of its start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trained: NonNegativeInt
    taught: NonNegativeInt
    earlier: NonNegativeInt

    @property
    def total(self) -> int:
        """All of it."""
        return self.trained + self.taught + self.earlier


def write_arithmetic(run: Run, images: int, teacher: Path | None) -> None:
    """Store the arithmetic of a finished training with so many training images."""
    teaching = None if teacher is None else read_recipe(teacher)
    found = training_arithmetic(run.recipe, images, steps=run.steps_made, teacher=teaching)
    before = [read_arithmetic(folder) for folder in (teacher, run.recipe.network.start) if folder is not None]
    earlier = sum(one.total for one in before if one is not None)
    document = RunArithmetic(trained=found.trained, taught=found.taught, earlier=earlier)
    write_json(run.folder / "arithmetic.json", document.model_dump())


def read_arithmetic(folder: Path) -> RunArithmetic | None:
    """The arithmetic of a run; None where it stored none. Raises CheckpointError where the file cannot be used."""
    path = folder / "arithmetic.json"
    if not path.exists():
        return None
    try:
        return RunArithmetic.model_validate(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from error
