"""What a training is going to do, said before it does it."""

from pathlib import Path

from rich.console import Console

from sfsc_training.arithmetic import training_arithmetic
from sfsc_training.checkpoint import read_recipe
from sfsc_training.config import EarlyStoppingSection, Recipe
from sfsc_training.data.dataset import Dataset, Split
from sfsc_training.early_stopping import counted_from
from sfsc_training.length import FEWEST_STEPS, batch_size, with_length
from sfsc_training.loop import RunOptions
from sfsc_training.step_time import training_seconds

__all__ = ["print_plan", "print_time"]

_NAMED = 3
_WORTH_TIMING = 50  # steps
_HELD_OUT = {
    "validation": "held out for choices",
    "test": "held out for evaluation",
}


def print_plan(
    recipe: Recipe, dataset: Dataset, data: Path, out: Path, console: Console, teacher: Path | None = None
) -> None:
    """Print images, identities, splits, what is left out, the network, and the arithmetic of the training."""
    splits = dataset.splits
    images = sum(len(split.paths) for split in splits.values())
    identities = sum(len(split.identities) for split in splits.values())
    console.print(f"{recipe.name}: {_count(images, identities)} in {data} → {out}", highlight=False)
    for part, split in splits.items():
        _line(console, part, f"{_count(len(split.paths), len(split.identities))}{_role(part, split)}")
    for finding in dataset.left_out:
        _line(console, "left out", str(finding))
    for note in dataset.notes:
        _line(console, "note", str(note))
    section, widths = recipe.data, ", ".join(recipe.width_names)
    colour = "in colour" if recipe.network.image_channels == 3 else "in grey"
    _line(
        console,
        "network",
        f"{recipe.network.backbone} at width {widths}; images are resized to {section.width} × {section.height} "
        f"pixels {colour} and become {recipe.network.dimension} numbers",
    )
    teaching = None if teacher is None else read_recipe(teacher)
    arithmetic = training_arithmetic(recipe, len(splits["train"].paths), teacher=teaching)
    _line(console, "arithmetic", f"{arithmetic} (two FLOP a multiply-accumulate, forward and backward)")


def print_time(recipe: Recipe, dataset: Dataset, console: Console, options: RunOptions) -> None:
    """Print how long the training takes, by timing a few steps; not where that takes as long itself."""
    images, limited = len(dataset.train.paths), with_length(recipe, len(dataset.train.paths))
    batch, steps = batch_size(recipe, images), limited.optimiser.steps
    looks = recipe.early_stopping is not None and dataset.validation.can_be_scored()
    length = f"{steps} steps of {batch} images, {steps * batch / images:.0f} passes over them"
    if steps < recipe.optimiser.steps:
        length += (
            f" (not {recipe.optimiser.steps} steps: optimiser.passes = {recipe.optimiser.passes:g}, but never "
            f"fewer than {FEWEST_STEPS} steps)"
        )
    if steps < _WORTH_TIMING:
        _line(console, "training", length)
    else:
        _line(console, "", "timing a few steps …")  # which may take a minute
        scored = len(dataset.validation.paths) if looks else 0
        seconds = training_seconds(limited, len(dataset.train.identities), batch, scored, options)
        _line(
            console,
            "training",
            f"{length}, about {_duration(sum(seconds))} on {options.device} with {options.threads} threads: "
            f"{seconds.steps / steps:.2f} s a step, as a few steps took that were timed just now",
        )
        if looks:
            _line(console, "", f"{_duration(seconds.looks)} of it to score validation images")
    if recipe.early_stopping is not None:
        _line(console, "early stop", _stopping(recipe.early_stopping, looks, counted_from(limited)))


def _stopping(section: EarlyStoppingSection, looks: bool, start: int) -> str:
    if not looks:
        return "none: fewer than 2 validation identities can be searched for"
    return (
        f"where {section.patience} looks at the validation identities, one every {section.every} steps, find no "
        "better weights; the best ones are the result"
        + (f"; they count after step {start}, where all widths learn, on images of the last size" if start else "")
    )


def _line(console: Console, title: str, text: str) -> None:
    console.print(f"  {title:<11}{text}", highlight=False, soft_wrap=True)


def _count(images: int, identities: int) -> str:
    return f"{images} images of {identities} identities"


def _role(part: str, split: Split) -> str:
    if part in _HELD_OUT:
        return f", {_HELD_OUT[part]}" if split.paths else f": none to be {_HELD_OUT[part]}"
    names = ", ".join(map(repr, split.identities[:_NAMED]))
    return f", such as {names}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
