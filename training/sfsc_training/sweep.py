"""A list of recipes × seeds: trained, evaluated, one JSON each; what is there already is skipped.

settings = ["optimiser.steps=1000"]      # optional, as --set, for every run
[[run]]
recipe = "omniglot28-bct"
seeds = [0, 1]
settings = ["name=bct-long", "optimiser.steps=3000"]      # optional, of this run alone, after the common ones
teacher = "omniglot28-independent"       # optional, the name of an earlier recipe of the list; same seed
"""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console

from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.machine import processor
from sfsc_bundle.retrieval import summarise
from sfsc_training.checkpoint import read_checkpoint, write_json
from sfsc_training.config import Recipe, load_recipe
from sfsc_training.data.reader import Dataset
from sfsc_training.errors import CheckpointError, RecipeError
from sfsc_training.evaluation import cost, cross_generation, embed_split, evaluate_split, open_run, report
from sfsc_training.loop import Running, train
from sfsc_training.results import read_history, versions

__all__ = ["Planned", "read_sweep", "run_sweep"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    settings: tuple[str, ...] = ()
    teacher: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: tuple[str, ...] = ()
    run: tuple[_Entry, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of a sweep; `folder` is below the sweep's own."""

    recipe: Recipe
    folder: str
    teacher: str | None


def read_sweep(path: Path) -> list[Planned]:
    """Every recipe × seed of a sweep file, all checked before the first is trained. Raises RecipeError."""
    try:
        file = _File.model_validate(tomllib.loads(path.read_text()))
    except (OSError, ValueError) as error:
        what = first_broken_rule(error) if isinstance(error, ValidationError) else error
        raise RecipeError(f"sweep {path} cannot be used: {what}") from error
    planned: dict[str, Planned] = {}
    for entry in file.run:
        for seed in entry.seeds:
            recipe = load_recipe(entry.recipe, [*file.settings, *entry.settings, f"seed={seed}"])
            teacher = None if entry.teacher is None else _folder(entry.teacher, seed)
            if teacher is not None and teacher not in planned:
                raise RecipeError(
                    f"sweep {path}: {recipe.name} is taught by {entry.teacher}, which must come before"
                )
            folder = _folder(recipe.name, seed)
            if folder in planned:
                raise RecipeError(f"sweep {path}: two runs are named {folder}; set another name")
            planned[folder] = Planned(recipe, folder, teacher)
    return list(planned.values())


def run_sweep(
    planned: Sequence[Planned],
    read: Callable[[Recipe], Dataset],
    runs: Path,
    results: Path,
    split: str,
    console: Console,
    running: Running,
) -> Iterator[Path]:
    """Train and evaluate what has no result yet, in order; the path of each result as it comes.

    A run that was cut off goes on from its checkpoint. A run that teaches a later one is trained again where its
    result is there but its folder is gone.

    Args:
        read: the data set of a recipe.
        runs: run folders go here.
        results: one JSON for each run.
        split: test or validation.
    """
    results.mkdir(parents=True, exist_ok=True)
    taught = {plan.teacher for plan in planned}
    for plan in planned:
        dataset = read(plan.recipe)
        path = results / f"{plan.folder}-{split}.json"
        needed = plan.folder in taught and not _finished(runs / plan.folder, plan.recipe)
        if _is_result(path, plan, dataset) and not needed:
            console.print(f"{plan.folder}: {path} is there")
            yield path
            continue
        began = time.monotonic()
        teacher = None if plan.teacher is None else runs / plan.teacher
        train(plan.recipe, dataset, runs / plan.folder, console, running, teacher)
        write_json(
            path, _document(plan, runs / plan.folder, dataset, split, console, running, time.monotonic() - began)
        )
        yield path


def _folder(name: str, seed: int) -> str:
    return f"{name}-seed{seed}"


def _finished(folder: Path, recipe: Recipe) -> bool:
    try:
        checkpoint = read_checkpoint(folder)
    except CheckpointError:
        return False
    return checkpoint is not None and checkpoint.step == recipe.optimiser.steps


def _is_result(path: Path, plan: Planned, dataset: Dataset) -> bool:
    if not path.is_file():
        return False
    found = json.loads(path.read_text())["data"]
    return (found["recipe_sha256"], found["data_sha256"]) == (plan.recipe.sha256, dataset.sha256)


def _document(
    plan: Planned, folder: Path, dataset: Dataset, split: str, console: Console, running: Running, seconds: float
) -> dict[str, Any]:
    run = open_run(folder, dataset, running.device)
    embedded = embed_split(run, dataset.part(split), console)
    cross = evaluate_split(embedded)
    summary = summarise(cross.mean_ap) if len(cross.widths) > 1 else None
    figures = {"mean of the matrix": summary.mean if summary else cross.mean_ap[0][0]}
    if summary is not None:
        figures |= {"mean self-test": summary.mean_self, "mean cross-test": summary.mean_cross}
    evaluation = report(cross, embedded.split) | {"step": run.step, "cost": cost(run)}
    if plan.teacher is not None and plan.recipe.teacher is not None and plan.recipe.teacher.classify:
        older = open_run(folder.parent / plan.teacher, device=running.device)
        generations = cross_generation(run, older, dataset.part(split), console)
        evaluation["generations"] = report(generations, embedded.split)
    write_json(folder / f"evaluation-{split}.json", evaluation)
    return {
        "name": plan.folder,
        "command": _command(),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
        "seed": plan.recipe.seed,
        "figures": [
            {"name": f"{name}, {split}", "value": value, "unit": "mAP", "goal": None, "met": None}
            for name, value in figures.items()
        ],
        "data": {
            "recipe": plan.recipe.model_dump(mode="json"),
            "recipe_sha256": plan.recipe.sha256,
            "data_sha256": dataset.sha256,
            "weights_sha256": run.weights_sha256,
            "teacher": plan.teacher,
            "seconds": round(seconds, 1),
            "versions": versions(),
            "evaluation": evaluation,
            "history": read_history(folder),
        },
    }


def _command() -> str:
    """As it was called, but for absolute paths, which say nothing on another machine."""
    words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    return shlex.join(["sfsc-train", *words])


def _commit() -> str:
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"
