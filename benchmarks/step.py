"""What a training step of all widths costs, compared with plain training of each width alone on the same batch.

    python benchmarks/step.py                    # time and memory of a step of each network, on the CPU
    python benchmarks/step.py --toy              # the same path in seconds; writes nothing; the tests run this

Time: one SFSC step (all widths, gradients combined) against the sum of plain forward + backward passes, each of a
sliced network with cross-entropy. Both without the optimiser; repetitions take turns, medians are compared.
Memory: peak of torch's CPU allocations by its profiler, above the weights that lie there before.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

import torch
from torch import Tensor
from torch.nn import functional as F

from result_file import Figure, write_result
from sfsc_training.config import Recipe, parse_recipe
from sfsc_training.data.batches import MicroBatch
from sfsc_training.distributed import World
from sfsc_training.loop import compute_gradients
from sfsc_training.losses.classifier import classifier_of
from sfsc_training.state import State, make_state
from sfsc_training.step_setup import prepare_steps

RATIO, MEMORY = "<= 1.15", "<= 1.5"
WARM_UPS = 5  # a CUDA graph is captured after three


@dataclass(frozen=True, slots=True)
class Case:
    """A network at a size of image; `recipe` has its sections network, data, optimiser."""

    name: str
    recipe: dict[str, object]
    classes: int


def case(name: str, network: dict[str, object], pixels: int, batch: int, classes: int) -> Case:
    """A case with the settings of SFSC."""
    data = {"height": pixels, "width": pixels}
    return Case(name, {"network": network, "data": data, "optimiser": {"batch": batch}}, classes)


SMALL = {"backbone": "resnet10t", "stem": "3x3", "stem_stride": 2, "image_channels": 1, "dimension": 256}
CASES = (
    case(
        "resnet10t, 28 px, batch 96",
        SMALL | {"arguments": {"stem_type": "", "channels": [64, 128, 256, 512]}},
        28,
        96,
        868,
    ),
    case("resnet18, 128 px, batch 32", {"backbone": "resnet18", "dimension": 256}, 128, 32, 1000),
)
TOY = (
    case(
        "toy",
        SMALL | {"arguments": {"stem_type": "", "channels": [8, 8, 16, 16]}, "dimension": 16},
        28,
        8,
        10,
    ),
)


def main() -> None:
    """Measure every case, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--toy", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = []
    for each in TOY if arguments.toy else CASES:
        recipe = parse_recipe({"name": "step", **each.recipe})
        figures += [*timing(each, recipe, arguments.repeats), *memory(each, recipe)]
    for figure in figures:
        print(f"{figure.name:72} {figure.value:10.4g} {figure.unit:8} {figure.goal or ''} {figure.met}")
    if not arguments.toy:
        data = {"repeats": arguments.repeats, "threads": arguments.threads}
        print("written to", write_result("step", figures, data, seed=0))


def timing(each: Case, recipe: Recipe, repeats: int, device: str = "cpu") -> list[Figure]:
    """Median seconds of an SFSC step and of each plain pass, and their ratio.

    On a GPU all of them run as CUDA graphs, so that arithmetic is compared with arithmetic, and without, too.
    """
    state, part = prepared(each, recipe, device)
    setup = prepare_steps(state, recipe, None, World())
    count = len(recipe.widths)
    calls: list[Callable[[], object]] = [lambda: compute_gradients(setup, [part], 0)]
    passes = [plain(state, recipe, index, part) for index in range(count)]
    if setup.graphs is None:
        calls += passes
    else:
        calls += [captured(run) for run in passes]
        calls += [lambda: compute_gradients(replace(setup, graphs=None), [part], 0), *passes]
    took = interleaved(calls, repeats, device)
    whole, apart = 1000 * took[0], 1000 * sum(took[1 : 1 + count])
    eager = []
    if setup.graphs is not None:
        slow, slow_apart = took[1 + count], sum(took[2 + count :])
        eager = [
            Figure(f"{each.name}: SFSC step without a graph", 1000 * slow, "ms"),
            Figure(f"{each.name}: without graphs, SFSC step / sum of plain passes", slow / slow_apart, "×"),
            Figure(f"{each.name}: images per second, over those without a graph", slow / took[0], "×", ">= 3"),
        ]
    return [
        *eager,
        Figure(f"{each.name}: SFSC step", whole, "ms"),
        Figure(f"{each.name}: sum of {len(recipe.widths)} plain passes", apart, "ms"),
        Figure(f"{each.name}: SFSC step / sum of plain passes", whole / apart, "×", RATIO),
        Figure(f"{each.name}: SFSC", recipe.optimiser.batch / took[0], "images/s"),
    ]


def memory(each: Case, recipe: Recipe) -> list[Figure]:
    """Peaks of a plain step at full width and of an SFSC step, and their ratio without m gradient vectors."""
    state, part = prepared(each, recipe)
    full = plain(state, recipe, len(recipe.widths) - 1, part)
    alone = peak(full)
    state, part = prepared(each, recipe)

    def steps() -> None:
        setup = prepare_steps(state, recipe, None, World())
        for number in range(2):
            compute_gradients(setup, [part], number)

    together = peak(steps)
    shared = [*state.family.shared_parameters(), *state.classifier.parameters()]
    vectors = len(recipe.widths) * sum(4 * parameter.numel() for parameter in shared)
    mib = 2**20
    return [
        Figure(f"{each.name}: peak memory of a plain step at full width", alone / mib, "MiB"),
        Figure(f"{each.name}: {len(recipe.widths)} gradient vectors", vectors / mib, "MiB"),
        Figure(f"{each.name}: peak memory of an SFSC step", together / mib, "MiB"),
        Figure(f"{each.name}: (SFSC peak − vectors) / plain peak", (together - vectors) / alone, "×", MEMORY),
    ]


def prepared(each: Case, recipe: Recipe, device: str = "cpu") -> tuple[State, MicroBatch]:
    """Fresh weights and one batch, from the seed."""
    torch.manual_seed(0)
    state = make_state(recipe, each.classes, None, device)
    state.family.train()
    shape = (recipe.optimiser.batch, 3, recipe.data.height, recipe.data.width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    return state, (images.to(device), torch.randint(0, each.classes, shape[:1]).to(device))


def plain(state: State, recipe: Recipe, index: int, part: MicroBatch) -> Callable[[], None]:
    """Forward and backward of one width as a network of its own, with cross-entropy; gradients start as none."""
    images, classes = part
    network = state.family.sliced(index).to(images.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    classifier = classifier_of(state.classifier, index)

    def run() -> None:
        for module in (network, classifier):
            module.zero_grad(set_to_none=True)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.optimiser.bf16):
            features: Tensor = network(images)
        F.cross_entropy(classifier(features), classes).backward()  # type: ignore[no-untyped-call]

    return run


def captured(run: Callable[[], None]) -> Callable[[], None]:
    """The same as a CUDA graph."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def interleaved(calls: Sequence[Callable[[], object]], repeats: int, device: str = "cpu") -> list[float]:
    """Median seconds of each call after the warm-ups; the calls take turns, so that a slow spell hits all."""
    took: list[list[float]] = [[] for _ in calls]
    for repeat in range(repeats + WARM_UPS):
        for place, call in enumerate(calls):
            began = perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat >= WARM_UPS:
                took[place].append(perf_counter() - began)
    return [median(values) for values in took]


def peak(call: Callable[[], object]) -> int:
    """Most bytes that torch had allocated on the CPU during a call, above those before it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held, most = 0, 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    assert most > 0, "torch's profiler reports no allocations"
    return most


if __name__ == "__main__":
    main()
