"""What a training is going to do, said before it does it."""

from pathlib import Path

from rich.console import Console

from sfsc_training.config import Recipe
from sfsc_training.data.dataset import Dataset, Split
from sfsc_training.loop import RunOptions, batch_size
from sfsc_training.step_time import training_seconds

__all__ = ["print_plan", "print_time"]

_NAMED = 3
_WORTH_TIMING = 50  # steps
_HELD_OUT = {
    "validation": "held out for choices",
    "test": "held out for evaluation",
}


def print_plan(recipe: Recipe, dataset: Dataset, data: Path, out: Path, console: Console) -> None:
    """Print images, identities, splits, what is left out, and the network."""
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


def print_time(recipe: Recipe, split: Split, console: Console, options: RunOptions) -> None:
    """Print how long the training takes, by timing a few steps; not where that takes as long itself."""
    batch, steps = batch_size(recipe, len(split.paths)), recipe.optimiser.steps
    if steps < _WORTH_TIMING:
        _line(console, "training", f"{steps} steps of {batch} images")
        return
    seconds = training_seconds(recipe, len(split.identities), batch, options)
    _line(
        console,
        "training",
        f"{steps} steps of {batch} images, about {_duration(seconds)} on {options.device} with {options.threads} "
        f"threads: {seconds / steps:.2f} s a step, as a few steps took that were timed just now",
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
