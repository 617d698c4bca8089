"""Mistakes in the words of a command that are told before torch is imported, which takes many seconds.

Only what is certain is looked at: a recipe, the settings of it, a data folder, run folders. Whatever is odd about
the words themselves is left to the command, and all of this is checked there once more.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from sfsc_training.config import load_recipe
from sfsc_training.errors import CheckpointError, DataError

__all__ = ["FLAGS", "check_early"]

FLAGS = frozenset({"--as-trained", "--compile", "--help", "--no-align", "--raw", "--replace", "--skip-unreadable"})
"""Options without a value."""
RUN_OPTIONS = ("--from", "--teacher", "--compatible-with")


def check_early(words: Sequence[str]) -> None:
    """Check the words behind `sfsc-train`.

    Raises:
        RecipeError: `train` cannot use its recipe, or a setting.
        CheckpointError: there is no run where one is named.
        DataError: there is nothing where the images should be.
    """
    if not words or (found := _parsed(words[1:])) is None:
        return
    arguments, options = found
    match words[0]:
        case "train":
            _check_train(arguments, options)
        case "align" | "evaluate" | "export":
            for run in arguments:
                _check_run(run)
            _check_runs(options)
            if arguments and not any(_draws_its_data(Path(run)) for run in arguments):
                _check_data(options)
        case "adopt":
            _check_data(options)
        case _:
            pass


def _parsed(words: Sequence[str]) -> tuple[list[str], Mapping[str, list[str]]] | None:
    """Arguments, and values by option; None where that is not certain, or help is asked for."""
    arguments, options, left = [], defaultdict(list), list(words)
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        if word == "--help" or (word.startswith("-") and not word.startswith("--")) or word == "--":
            return None
        if not word.startswith("--"):
            arguments.append(word)
        elif name not in FLAGS:
            if not equals:
                if not left:
                    return None
                value = left.pop(0)
            options[name].append(value)
    return arguments, options


def _check_train(arguments: Sequence[str], options: Mapping[str, list[str]]) -> None:
    _check_runs(options)
    draws = any(_draws_its_data(Path(run)) for run in options.get("--from", ()))
    if len(arguments) == 1 and "--from" not in options:
        draws = load_recipe(arguments[0], options.get("--set", ())).data.vehicles is not None
    if not draws:
        _check_data(options)


def _check_runs(options: Mapping[str, list[str]]) -> None:
    for name in RUN_OPTIONS:
        for run in options.get(name, ()):
            _check_run(run)


def _check_run(folder: str) -> None:
    if not (Path(folder) / "recipe.json").exists():
        raise CheckpointError(f"{folder} is not a run folder: it has no recipe.json")


def _check_data(options: Mapping[str, list[str]]) -> None:
    for place in options.get("--data", ()):
        if not Path(place).exists():
            raise DataError(f"--data {place} does not exist")


def _draws_its_data(run: Path) -> bool:
    """Whether a run's recipe draws its images where they are missing; true, too, where that cannot be read."""
    try:
        return json.loads((run / "recipe.json").read_text())["data"]["vehicles"] is not None
    except (OSError, ValueError, KeyError, TypeError):
        return True
