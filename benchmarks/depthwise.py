"""The gradient of small depthwise convolutions: ours beside oneDNN's, and what it is of a training step.

    python benchmarks/depthwise.py              # a minute on two cores; --dry writes nothing

The convolutions are those of EfficientNet-Lite0's last stages at 64 to 128 pixels, 64 images a batch. A step is
one of the recipe `photos` on random images. Both ways take turns; medians.
"""

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter
from unittest.mock import patch

import torch
from torch.nn import functional as F

from result_file import Figure, write_result
from sfsc_training.config import load_recipe
from sfsc_training.distributed import World
from sfsc_training.loop import compute_gradients, update_weights
from sfsc_training.malloc import keep_large_blocks
from sfsc_training.networks import layers
from sfsc_training.networks.depthwise import depthwise
from sfsc_training.state import make_state
from sfsc_training.step_setup import StepSetup, prepare_steps

BATCH, THREADS, CLASSES = 64, 2, 33
CONVOLUTIONS = ((480, 4, 5, 1), (672, 4, 5, 1), (672, 4, 5, 2), (1152, 2, 5, 1), (1152, 2, 3, 1), (1152, 4, 5, 1))
"""(channels, height and width of the map, size of the filter, stride)."""
SIZES = (64, 96, 128)
Way = Callable[[], object]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    keep_large_blocks()
    figures = [figure for which in CONVOLUTIONS for figure in of_convolution(*which, arguments.repeats)]
    setup = photos()
    figures += [figure for size in SIZES for figure in of_step(setup, size, arguments.repeats)]
    for figure in figures:
        print(f"{figure.name}: {figure.value:.2f} {figure.unit}")
    if not arguments.dry:
        write_result("depthwise", figures, {"batch": BATCH, "threads": THREADS}, seed=0)


def of_convolution(channels: int, side: int, kernel: int, stride: int, repeats: int) -> list[Figure]:
    """One convolution, forward and by its weight."""
    x = torch.randn(BATCH, channels, side, side).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, 1, kernel, kernel).to(memory_format=torch.channels_last).requires_grad_()
    sizes = (stride, stride), (kernel // 2, kernel // 2)
    theirs = F.conv2d(x, weight, None, *sizes, 1, channels)
    ours = depthwise(x, weight, None, *sizes)
    gradient = torch.randn_like(theirs)
    ways: dict[str, Way] = {
        "forward": lambda: F.conv2d(x, weight.detach(), None, *sizes, 1, channels),
        "oneDNN": lambda: torch.autograd.grad(theirs, weight, gradient, retain_graph=True),
        "ours": lambda: torch.autograd.grad(ours, weight, gradient, retain_graph=True),
    }
    found = in_turns(ways, repeats)
    name = f"{channels} channels on {side} × {side}, {kernel} × {kernel}, stride {stride}"
    return [
        Figure(f"{name}: gradient by oneDNN ÷ forward", found["oneDNN"] / found["forward"], "×"),
        Figure(f"{name}: gradient by oneDNN ÷ ours", found["oneDNN"] / found["ours"], "×", "> 1"),
    ]


def photos() -> StepSetup:
    """The recipe's network and losses."""
    recipe = load_recipe("photos")
    setup = prepare_steps(make_state(recipe, CLASSES, None, "cpu"), recipe, None, World(), compiled=False)
    setup.train_mode()
    return setup


def of_step(setup: StepSetup, size: int, repeats: int) -> list[Figure]:
    """One step at one image size."""
    batch = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8), torch.randint(0, CLASSES, (BATCH,))

    def ours() -> None:
        compute_gradients(setup, [batch], 0)
        update_weights(setup, 0)

    def by_onednn() -> None:
        with patch.object(layers, "is_slow_in_onednn", lambda *_: False):
            ours()

    found = in_turns({"oneDNN": by_onednn, "ours": ours}, repeats)
    return [
        Figure(f"step of photos at {size} px: ours", found["ours"], "s"),
        Figure(
            f"step of photos at {size} px: with oneDNN's gradient ÷ ours",
            found["oneDNN"] / found["ours"],
            "×",
            "> 1",
        ),
    ]


def in_turns(ways: dict[str, Way], repeats: int) -> dict[str, float]:
    """The median of each way's seconds, after one that does not count."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            began = perf_counter()
            way()
            spent[name].append(perf_counter() - began)
    return {name: median(seconds[1:]) for name, seconds in spent.items()}


if __name__ == "__main__":
    main()
