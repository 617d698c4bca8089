"""What every training step uses, prepared once per run: the parameters of each width and the gradient matrix."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, assert_never

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sfsc_training.aggregation.aggregate import shells
from sfsc_training.config import Recipe
from sfsc_training.cuda_graph import StepGraphs
from sfsc_training.distributed import World
from sfsc_training.gradient_matrix import GradientMatrix
from sfsc_training.losses.classifier import Classifier, classifier_of
from sfsc_training.losses.objective import WidthLoss
from sfsc_training.networks.family import Family
from sfsc_training.networks.separate import Separate
from sfsc_training.state import State
from sfsc_training.teacher import Teacher

__all__ = ["StepSetup", "WidthParameters", "prepare_steps"]


@dataclass(frozen=True, slots=True)
class WidthParameters:
    """The parameters of one width.

    `leading`: its crop of the shared parameters, by name: views, so they follow the optimiser, and autograd
    computes no zeros outside the crop. `private`: what no other width uses.
    """

    classifier: Classifier
    leading: dict[str, Tensor]
    private: list[nn.Parameter]


@dataclass(frozen=True, slots=True)
class StepSetup:
    """`trained`: positions of the trained widths, ascending; `widths`: parameters of every width, by position.

    `shared`: parameters that several widths use, among them `uncropped` (the one classifier's), which every width
    uses whole. `gradients`: a row per trained width, a column per shared weight. `regions`: the columns that are
    aggregated separately; None: all together. `forward`: `functional_call`, or its compiled form. `graphs`: runs
    the passes of a step as a CUDA graph; None where device or recipe are not fit for it.
    """

    recipe: Recipe
    state: State
    teacher: Teacher | None
    world: World
    forward: Callable[..., Any]
    trained: tuple[int, ...]
    widths: tuple[WidthParameters, ...]
    shared: list[nn.Parameter]
    uncropped: list[nn.Parameter]
    gradients: GradientMatrix
    regions: list[Tensor] | None
    graphs: StepGraphs[dict[int, WidthLoss]] | None

    def private(self, positions: Iterable[int]) -> list[nn.Parameter]:
        """The private parameters of some widths."""
        return [parameter for index in positions for parameter in self.widths[index].private]

    def train_mode(self) -> None:
        """Put every width into training mode but a frozen one."""
        family = self.state.family
        family.train()
        if self.recipe.loss.reference == "average":
            self.state.result()[0].train()
        if len(self.trained) < len(self.widths) and isinstance(family, Separate):
            family.members[-1].eval()


def prepare_steps(
    state: State, recipe: Recipe, teacher: Teacher | None, world: World, *, compiled: bool = False
) -> StepSetup:
    """Sort the parameters of a run by the widths that use them, and allocate the gradient matrix."""
    family, classifier, count = state.family, state.classifier, len(recipe.widths)
    frozen = recipe.teacher is not None and recipe.teacher.full
    trained = tuple(range(count - 1 if frozen else count))
    own = isinstance(classifier, nn.ModuleList)  # a classifier for each width
    uncropped = [] if own else [p for p in classifier.parameters() if p.requires_grad]
    shared = family.shared_parameters() + uncropped
    widths = []
    for index in range(count):
        kappa, private = classifier_of(classifier, index), family.private_parameters(index)
        widths.append(
            WidthParameters(kappa, _leading(family, index), [*private, *kappa.parameters()] if own else private)
        )
    used = [[*widths[index].leading.values(), *uncropped] for index in trained]
    gradients = GradientMatrix(shared, used, like=next(family.parameters()))
    forward = torch.compile(functional_call) if compiled else functional_call
    regions = _regions(recipe, family, trained, shared, gradients.values)
    graphs = None
    if _can_replay(recipe, world) and gradients.values.is_cuda and not compiled:
        graphs = StepGraphs[dict[int, WidthLoss]]([p for index in trained for p in widths[index].private])
    return StepSetup(
        recipe,
        state,
        teacher,
        world,
        forward,
        trained,
        tuple(widths),
        shared,
        uncropped,
        gradients,
        regions,
        graphs,
    )


def _can_replay(recipe: Recipe, world: World) -> bool:
    """Whether a step does the same as the last one with other inputs: no ramp, and no second part or process."""
    return world.size == 1 and recipe.optimiser.micro_batches == 1 and not recipe.loss.evidential.anneal_steps


def _leading(family: Family, index: int) -> dict[str, Tensor]:
    names = {id(parameter): name for name, parameter in family.named_parameters()}
    pairs = zip(family.shared_parameters(), family.leading(index), strict=True)
    return {names[id(whole)]: part.detach().requires_grad_() for whole, part in pairs}


def _regions(
    recipe: Recipe, family: Family, trained: Iterable[int], shared: list[nn.Parameter], values: Tensor
) -> list[Tensor] | None:
    match recipe.aggregation.scope:
        case "flat":
            return None
        case "overlap":
            reached = torch.stack([family.reached(index) for index in trained])
            uncropped = reached.new_ones(len(reached), values.shape[1] - reached.shape[1])
            return shells(torch.cat([reached, uncropped], dim=1))
        case "tensor":
            columns = torch.arange(values.shape[1], device=values.device)
            return list(torch.split(columns, [parameter.numel() for parameter in shared]))
        case _:
            assert_never(recipe.aggregation.scope)
