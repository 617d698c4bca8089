"""Sweeps: recipes × seeds from a list, trained and evaluated, with one JSON per run.

settings = ["optimiser.steps=1000"]     # optional: as --set, for every run
[[run]]
recipe = "omniglot28-bct"
seeds = [0, 1]                          # optional: [0] if not given
settings = ["name=bct-long"]            # optional: for these runs only, after the common settings
teacher = "omniglot28-independent"      # optional: the name of an earlier run of the list, with the same seed
"""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console

from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.machine import processor
from sfsc_training.align_run import align_trained
from sfsc_training.arithmetic_file import read_arithmetic, write_arithmetic
from sfsc_training.check_parts import check_parts
from sfsc_training.checkpoint import older_space, read_checkpoint, write_json
from sfsc_training.config import Recipe, load_recipe
from sfsc_training.data.dataset import Dataset
from sfsc_training.datasets import decode_for_training
from sfsc_training.errors import CheckpointError, DivergenceError, RecipeError
from sfsc_training.evaluation import (
    Embedded,
    align_embedded,
    cost,
    cross_generation,
    embed_split,
    evaluate_mixed,
    evaluate_split,
    report,
)
from sfsc_training.history import read_history
from sfsc_training.loop import RunOptions, train
from sfsc_training.results import versions
from sfsc_training.run import Run, open_run
from sfsc_training.teacher import check_teaching
from sfsc_training.untouched import evaluate_untouched

__all__ = ["Planned", "read_sweep", "run_sweep"]


class _SweepRun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    settings: tuple[str, ...] = ()
    teacher: str | None = None


class _SweepFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: tuple[str, ...] = ()
    run: tuple[_SweepRun, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of a sweep; `folder` and `teacher`: names of its own run folder and of its teacher's."""

    recipe: Recipe
    folder: str
    teacher: str | None


def read_sweep(path: Path) -> list[Planned]:
    """All runs of a sweep file, checked before the first is trained. Raises RecipeError."""
    try:
        file = _SweepFile.model_validate(tomllib.loads(path.read_text()))
    except (OSError, ValueError) as error:
        what = first_broken_rule(error) if isinstance(error, ValidationError) else error
        raise RecipeError(f"sweep {path} cannot be used: {what}") from error
    planned: dict[str, Planned] = {}
    for entry in file.run:
        for seed in entry.seeds:
            recipe = load_recipe(entry.recipe, [*file.settings, *entry.settings, f"seed={seed}"])
            teacher = None if entry.teacher is None else _folder(entry.teacher, seed)
            if teacher is not None and teacher not in planned:
                raise RecipeError(f"sweep {path}: {recipe.name} must come after its teacher, {entry.teacher}")
            try:
                check_teaching(planned[teacher].recipe if teacher else None, recipe, str(teacher))
            except (RecipeError, CheckpointError) as error:
                raise RecipeError(f"sweep {path}: {recipe.name}: {error}") from error
            folder = _folder(recipe.name, seed)
            if folder in planned:
                raise RecipeError(f"sweep {path}: two runs are named {folder}; give one another name")
            planned[folder] = Planned(recipe, folder, teacher)
    return list(planned.values())


def run_sweep(
    planned: Sequence[Planned],
    read: Callable[[Recipe], Dataset],
    runs: Path,
    results: Path,
    splits: Sequence[str],
    console: Console,
    options: RunOptions,
) -> Iterator[Path]:
    """Train and evaluate the runs that have no result yet, in order; yields the path of each result.

    A run that was stopped is resumed. A teacher with a result but without a run folder is trained again.

    Args:
        read: the data set of a recipe.
        runs: folder for the run folders.
        results: folder for the results, one JSON per run and split.
        splits: test, validation or both.
    """
    results.mkdir(parents=True, exist_ok=True)
    taught = {plan.teacher for plan in planned}
    for plan in planned:
        dataset = read(plan.recipe)
        paths = {split: results / f"{plan.folder}-{split}.json" for split in splits}
        missing = {split: path for split, path in paths.items() if not _is_result(path, plan, dataset)}
        if not missing and (plan.folder not in taught or _finished(runs / plan.folder, plan.recipe)):
            console.print(f"{plan.folder}: the result exists already ({', '.join(map(str, paths.values()))})")
            yield from paths.values()
            continue
        began = time.monotonic()
        teacher = None if plan.teacher is None else runs / plan.teacher
        check_parts(plan.recipe, teacher)
        usable, images = decode_for_training(dataset, plan.recipe, console)
        try:
            train(plan.recipe, usable, runs / plan.folder, console, options, teacher, images)
        except DivergenceError as error:
            raise DivergenceError(f"{plan.folder}: {error}") from error
        older = None
        if teacher is not None and older_space(runs / plan.folder) is not None:
            older = open_run(teacher, device=options.device)
        run = align_trained(runs / plan.folder, usable, options.device, console, older)
        write_arithmetic(run, len(usable.train.paths), teacher)
        seconds = time.monotonic() - began
        for split, path in missing.items():
            write_json(path, _document(plan, run, dataset, split, console, options, seconds))
        yield from paths.values()


def _folder(name: str, seed: int) -> str:
    return f"{name}-seed{seed}"


def _finished(folder: Path, recipe: Recipe) -> bool:
    try:
        checkpoint = read_checkpoint(folder)
    except CheckpointError:
        return False
    return checkpoint is not None and (checkpoint.finished or checkpoint.step == recipe.optimiser.steps)


def _is_result(path: Path, plan: Planned, dataset: Dataset) -> bool:
    if not path.is_file():
        return False
    found = json.loads(path.read_text())["data"]
    return (found["recipe_sha256"], found["data_sha256"]) == (plan.recipe.sha256, dataset.sha256)


def _document(
    plan: Planned,
    run: Run,
    dataset: Dataset,
    split: str,
    console: Console,
    options: RunOptions,
    seconds: float,
) -> dict[str, Any]:
    raw = embed_split(run.unaligned(), dataset.part(split), console)
    unaligned = _evaluated(raw)
    spent = read_arithmetic(run.folder)
    evaluation = _evaluated(align_embedded(run, raw)) | {
        "untouched": evaluate_untouched(plan.recipe, dataset, split, options.device, console),
        "step": run.step,
        "space": run.space,
        "cost": cost(run),
        "arithmetic": None if spent is None else spent.model_dump(),
    }
    figures = _figures(evaluation) | {f"{name}, raw": value for name, value in _figures(unaligned).items()}
    if plan.teacher is not None and plan.recipe.teacher is not None and plan.recipe.teacher.classify:
        older = open_run(run.folder.parent / plan.teacher, device=options.device)
        generations = cross_generation(run, older, dataset.part(split), console)
        evaluation["generations"] = report(generations, raw.split)
    write_json(run.folder / f"evaluation-{split}.json", evaluation)
    return {
        "name": plan.folder,
        "command": _command(),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()}
        | ({"gpu": torch.cuda.get_device_name()} if options.device == "cuda" else {}),
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
            "raw": unaligned,
            "alignment": run.alignment and run.alignment.description.model_dump(mode="json"),
            "history": read_history(run.folder),
        },
    }


def _evaluated(embedded: Embedded) -> dict[str, Any]:
    return report(evaluate_split(embedded), embedded.split, evaluate_mixed(embedded))


def _figures(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """What a table of results shows of an evaluation, in points."""
    cells = [cell for row in evaluation["mean_ap"] for cell in row]
    figures = {"mean of the matrix": fmean(cells)}
    if len(cells) > 1:
        summary = evaluation["summary"]
        figures |= {"mean self-test": summary["mean_self"], "mean cross-test": summary["mean_cross"]}
    return figures | {"mixed gallery": fmean(evaluation["mixed_gallery"]["mean_ap"])}


def _command() -> str:
    """The command line, with absolute paths cut to their last part."""
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
