"""Where a training step spends its time: operators, copies, waits for the device, and the ten slowest operators.

    python benchmarks/profile_step.py --device cuda     # EfficientNet-Lite0, 128 px, batch 64, float32
    python benchmarks/profile_step.py --device cuda --backbone resnet18
    python benchmarks/profile_step.py --steps 2 --pixels 64 --batch 4     # on the CPU, in seconds

Written for one question that is open (docs/gpu.md): why a step of EfficientNet-Lite0 seemed to hang on a GPU,
where timm's own network took 25 ms. The step of all widths and the plain pass of each width run in both memory
layouts: channels last, as training has it, and contiguous, as timm's networks are made. Every step prints its
time at once, and where one takes longer than `--patience`, the stacks of all threads are printed: a step that
hangs says where. Nothing is written.
"""

import argparse
import faulthandler
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Literal, get_args

import torch
from torch.profiler import ProfilerActivity, profile

from sfsc_training.config import Recipe, parse_recipe
from sfsc_training.data.batches import MicroBatch
from sfsc_training.distributed import World
from sfsc_training.loop import compute_gradients, update_weights
from sfsc_training.state import State
from sfsc_training.step_setup import prepare_steps
from step import case, plain, prepared

__all__ = ["Counted", "counted"]

Layout = Literal["channels-last", "contiguous"]
FORMATS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}
SLOWEST = 10
CONVOLUTIONS = ("convolution", "conv_depthwise")
WAITS = ("aten::_local_scalar_dense", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
CLASSES = 100
AS_PHOTOS = {
    "method": "soft-targets",
    "loss": {"compatible": "soft-targets", "logits": "cosine", "scale": 16.0},
    "aggregation": {"kind": "sum"},
}
"""What the recipe `photos` trains EfficientNet-Lite0 with."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a call did. `convolutions`: by operator, which names the library; `slowest`: (operator, calls, ms)."""

    operators: int
    copies: int
    waits: int
    launches: int
    convolutions: dict[str, int]
    slowest: list[tuple[str, int, float]]


def main() -> None:
    """Run, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="a name of timm's")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--layout", choices=get_args(Layout), help="this one alone")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds")
    given = parser.parse_args()
    network: dict[str, object] = {"backbone": given.backbone, "dimension": 256}
    each = case(given.backbone, network, given.pixels, given.batch, CLASSES)
    optimiser = {"batch": given.batch, "bf16": given.bf16}
    recipe = parse_recipe({"name": "profile", **each.recipe, **AS_PHOTOS, "optimiser": optimiser})
    for layout in get_args(Layout) if given.layout is None else (given.layout,):
        state, part = prepared(each, recipe, given.device)
        state.family.to(memory_format=FORMATS[layout])
        for what, call in calls(state, recipe, part, given.device).items():
            print(f"\n{layout}, {what}", flush=True)
            for step in range(given.steps):
                print(f"  step {step}: {1000 * waited(call, given.device, given.patience):.1f} ms", flush=True)
            if "CUDA graph" not in what:
                show(counted(call, given.device))


def calls(state: State, recipe: Recipe, part: MicroBatch, device: str) -> dict[str, Callable[[], object]]:
    """The plain pass of each width, both parts of the step of all, and on a GPU the first as a CUDA graph."""
    setup = prepare_steps(state, recipe, None, World())
    setup.train_mode()
    eager = replace(setup, graphs=None)

    found: dict[str, Callable[[], object]] = {
        f"plain pass of width {name}": plain(state, recipe, index, part)
        for index, name in enumerate(recipe.width_names)
    }
    found["gradients of all widths"] = lambda: compute_gradients(eager, [part], 0)
    found["update of the weights"] = lambda: update_weights(setup, 0)
    if device == "cuda":
        found["gradients of all widths, with their CUDA graph"] = lambda: compute_gradients(setup, [part], 0)
    return found


def waited(call: Callable[[], object], device: str, patience: float) -> float:
    """Seconds of a call, until the device has done it."""
    faulthandler.dump_traceback_later(patience, repeat=True)
    began = perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    faulthandler.cancel_dump_traceback_later()
    return perf_counter() - began


def counted(call: Callable[[], object], device: str) -> Counted:
    """Profile one call."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with profile(activities=activities) as profiler:
        call()
        if device == "cuda":
            torch.cuda.synchronize()
    events: list[Any] = list(profiler.key_averages())
    operators = [event for event in events if event.key.startswith("aten::")]
    kind = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    slowest = sorted(operators, key=lambda event: getattr(event, kind), reverse=True)[:SLOWEST]
    return Counted(
        operators=sum(event.count for event in operators),
        copies=sum(event.count for event in operators if event.key == "aten::copy_"),
        waits=sum(event.count for event in events if event.key in WAITS),
        launches=sum(event.count for event in events if event.key.startswith("cudaLaunchKernel")),
        convolutions={
            event.key: event.count
            for event in operators
            if any(kind in event.key for kind in CONVOLUTIONS) and event.key != "aten::convolution"
        },
        slowest=[(event.key, event.count, getattr(event, kind) / 1000) for event in slowest],
    )


def show(found: Counted) -> None:
    """Print it."""
    print(
        f"  {found.operators} operators, {found.copies} of them copies, {found.waits} waits for the device, "
        f"{found.launches} launches"
    )
    for name, count in sorted(found.convolutions.items()):
        print(f"  {name}: {count}")
    print(f"  the {SLOWEST} slowest operators:")
    for name, count, took_ms in found.slowest:
        print(f"    {name:44} {count:6} calls {took_ms:10.2f} ms")


if __name__ == "__main__":
    main()
