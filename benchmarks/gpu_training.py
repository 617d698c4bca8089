"""The training side of gpu.py: what a step costs on the device, and whether bfloat16 costs accuracy.

Steps of resnet18 and resnet50 at 128 pixels in both precisions against plain passes, and images per second; then
a run of the first network on rendered vehicles in each precision, the same recipe, seed and steps, scored on other
vehicles. Before that, losses with and without a CUDA graph are compared for what a graph must follow from step to
step: weights, averaged weights, drawn widths.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from result_file import Figure
from sfsc_bundle.retrieval import summarise
from sfsc_training.config import parse_recipe
from sfsc_training.data.read import read_dataset
from sfsc_training.distributed import World
from sfsc_training.evaluation import embed_split, evaluate_split
from sfsc_training.loop import RunOptions, compute_gradients, train, update_weights
from sfsc_training.run import open_run
from sfsc_training.step_setup import prepare_steps
from step import SMALL, case, prepared, timing

__all__ = ["SHORT", "TOY", "WHOLE", "Size", "training"]

QUIET = Console(quiet=True)


@dataclass(frozen=True, slots=True)
class Size:
    """The amount of work: networks by name, pixels, batch, identities to train and test on, steps (0: none)."""

    networks: Mapping[str, Mapping[str, Any]]
    pixels: int
    batch: int
    identities: tuple[int, int]
    steps: int


WHOLE = Size(
    {"resnet18": {"backbone": "resnet18"}, "resnet50": {"backbone": "resnet50"}}, 128, 128, (400, 100), 800
)
SHORT = Size(
    {"resnet10t": SMALL | {"arguments": {"stem_type": "", "channels": [32, 64, 128, 256]}}}, 28, 96, (868, 0), 0
)
TOY = Size(
    {"toy": {"backbone": "resnet10t", "arguments": {"stem_type": "", "channels": [8, 8, 16, 16]}}},
    64,
    8,
    (4, 2),
    2,
)
FOLLOWED: Mapping[str, Mapping[str, Any]] = {
    "SFSC": {},
    "averaged weights": {
        "method": "averaged",
        "loss": {"compatible": "soft-targets", "reference": "average"},
        "optimiser": {"ema": 0.9},
    },
    "drawn widths": {"method": "drawn", "loss": {"contrastive": 0.5}},
}


def training(device: str, size: Size, repeats: int) -> list[Figure]:
    """All figures of the device, for steps and for accuracy."""
    figures = [] if device == "cpu" else [parity(size, *each) for each in FOLLOWED.items()]
    for name, network in size.networks.items():
        for bf16 in (False, True):
            precision = "bfloat16" if bf16 else "float32"
            each = case(
                f"{name}, {size.pixels} px, batch {size.batch}, {precision}",
                {**network, "dimension": 256},
                size.pixels,
                size.batch,
                size.identities[0],
            )
            optimiser = {"batch": size.batch, "bf16": bf16}
            recipe = parse_recipe({"name": "step", **each.recipe, "optimiser": optimiser})
            figures += timing(each, recipe, repeats, device)
    if not size.steps:
        return figures
    with TemporaryDirectory() as place:
        name, network = next(iter(size.networks.items()))
        figures += accuracy(name, network, device, size, Path(place))
    return figures


def parity(size: Size, what: str, sections: Mapping[str, Any], device: str = "cuda") -> Figure:
    """The largest relative difference between losses of eight steps with and without a CUDA graph, in float32."""
    name, network = next(iter(size.networks.items()))
    each = case(name, {**network, "dimension": 256}, size.pixels, 32, 100)
    optimiser = {"batch": 32, "bf16": False, **sections.get("optimiser", {})}
    recipe = parse_recipe({"name": "parity", **each.recipe, **sections, "optimiser": optimiser})
    losses = []
    for graphs in (True, False):
        state, part = prepared(each, recipe, device)
        setup = prepare_steps(state, recipe, None, World())
        setup = setup if graphs else replace(setup, graphs=None)
        setup.train_mode()
        found = []
        for step in range(8):
            found.append(compute_gradients(setup, [part], step).losses)
            update_weights(setup, step)
        losses.append(found)
    worst = max(abs(one[i] - other[i]) / other[i] for one, other in zip(*losses, strict=True) for i in one)
    assert worst <= 1e-2, f"{what}: losses with and without a CUDA graph differ by {100 * worst:.2f} %"
    return Figure(f"{name}, {what}: largest difference of a loss with a CUDA graph", worst, "share", "<= 0.01")


def accuracy(name: str, network: Mapping[str, Any], device: str, size: Size, place: Path) -> list[Figure]:
    """Mean mAP of the matrix on rendered vehicles after training in either precision, and the difference."""
    found = {bf16: trained(name, network, device, size, place, bf16=bf16) for bf16 in (False, True)}
    text = f"{name}, rendered vehicles, {size.steps} steps"
    return [
        Figure(f"{text}, float32: mean mAP", found[False], "points"),
        Figure(f"{text}, bfloat16: mean mAP", found[True], "points"),
        Figure(f"{text}: bfloat16 − float32", found[True] - found[False], "points", ">= -1.0"),
    ]


def trained(name: str, network: Mapping[str, Any], device: str, size: Size, place: Path, *, bf16: bool) -> float:
    """Train one run and score it on the test vehicles."""
    train_count, test_count = size.identities
    vehicles = {"train": train_count, "test": test_count, "shots": 1}
    recipe = parse_recipe(
        {
            "name": f"{name}-{'bfloat16' if bf16 else 'float32'}",
            "data": {"height": size.pixels, "width": size.pixels, "vehicles": vehicles, "validation_share": 0.0},
            "network": {**network, "dimension": 256},
            "optimiser": {
                "steps": size.steps,
                "batch": size.batch,
                "bf16": bf16,
                "warmup_steps": size.steps // 10,
            },
        }
    )
    dataset = read_dataset(place / "vehicles", recipe.data, recipe.seed)
    folder = place / recipe.name
    train(recipe, dataset, folder, QUIET, RunOptions(device=device, workers=4 if device == "cuda" else 0))
    run = open_run(folder, dataset, device)
    return summarise(evaluate_split(embed_split(run, dataset.test, QUIET)).mean_ap).mean
