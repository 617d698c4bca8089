"""One gradient for each width, averaged over parts and processes, then combined (method §3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sfsc_training.aggregation.aggregate import Aggregate, aggregate, shells
from sfsc_training.config import Recipe
from sfsc_training.data.batches import Part
from sfsc_training.distributed import World
from sfsc_training.errors import DivergenceError
from sfsc_training.gradient_matrix import Rows
from sfsc_training.losses.classifier import classifier_of
from sfsc_training.losses.objective import WidthLoss, needs_widest, width_loss
from sfsc_training.networks.family import Family
from sfsc_training.networks.separate import Separate
from sfsc_training.sandwich import sandwich
from sfsc_training.teacher import Teacher

__all__ = ["Step", "WidthGradients"]

_EXPLODED = 1e6


@dataclass(frozen=True, slots=True)
class Step:
    """What one step found, by position of each width it trained: losses, ‖g_i‖, mean u; the share of conflicts."""

    losses: dict[int, float]
    uncertainty: dict[int, float]
    norms: dict[int, float]
    conflicts: float


class WidthGradients:
    """Leaves in `.grad` of every trained parameter what the optimiser is to use."""

    def __init__(
        self,
        family: Family,
        classifier: nn.Module,
        recipe: Recipe,
        teacher: Teacher | None,
        world: World,
        *,
        compiled: bool = False,
    ) -> None:
        self._family, self._recipe, self._teacher, self._world = family, recipe, teacher, world
        self._embed = torch.compile(functional_call) if compiled else functional_call
        count = len(recipe.widths)
        frozen = recipe.teacher is not None and recipe.teacher.full
        self._trained = tuple(range(count - 1 if frozen else count))
        self._classifiers = [classifier_of(classifier, index) for index in range(count)]
        self._leaves = {index: _leaves(family, index) for index in self._trained}
        self._shared = family.shared_parameters()
        self._private = [family.private_parameters(index) for index in range(count)]
        self._whole: list[nn.Parameter] = []  # what every width uses all of: the one classifier
        if isinstance(classifier, nn.ModuleList):
            self._private = [[*p, *k.parameters()] for p, k in zip(self._private, self._classifiers, strict=True)]
        else:
            self._whole = [p for p in classifier.parameters() if p.requires_grad]
            self._shared += self._whole
        trained = (parameter for index in self._trained for parameter in self._private[index])
        self.parameters = [*self._shared, *trained]
        used = [[*self._leaves[index].values(), *self._whole] for index in self._trained]
        self._rows = Rows(self._shared, used, like=self.parameters[0])
        self._parts = self._make_parts(recipe.aggregation.scope)

    def train_mode(self) -> None:
        """Everything trains but a frozen width."""
        self._family.train()
        if len(self._trained) < len(self._recipe.widths) and isinstance(self._family, Separate):
            self._family.members[-1].eval()

    def step(self, parts: Sequence[Part], step: int) -> Step:
        """Fill `.grad` from this process's parts of a batch.

        Raises:
            DivergenceError: a loss is not a number or has exploded; names width and step.
        """
        generator = torch.Generator().manual_seed(self._recipe.seed * 1_000_003 + step)
        chosen = sandwich(self._trained, self._recipe.optimiser.sandwich, generator)
        for parameter in (p for index in self._trained if index not in chosen for p in self._private[index]):
            parameter.grad = None
        found = [self._backward(part, step, chosen, number == 0) for number, part in enumerate(parts)]
        rows = self._rows.values
        if len(chosen) < len(rows):
            rows = rows[[self._trained.index(index) for index in chosen]]
        private = [p.grad for index in chosen for p in self._private[index] if p.grad is not None]
        for gradient in (rows, *private) if len(parts) > 1 else ():
            gradient.div_(len(parts))
        self._world.average([rows, *private])
        update = aggregate(rows, self._recipe.aggregation, generator, self._parts)
        for parameter, gradient in zip(self._shared, self._rows.split(update.update, self._shared), strict=True):
            parameter.grad = gradient
        return self._summary(found[0], chosen, update)

    def _backward(self, part: Part, step: int, chosen: Sequence[int], first: bool) -> dict[int, WidthLoss]:
        """Gradients of one part, set for the first, added for others; widest first: the rest refer to it."""
        images, classes = part
        device = self._rows.values.device
        images, classes = images.to(device, non_blocking=True), classes.to(device, non_blocking=True)
        results: dict[int, WidthLoss] = {}
        widest = None
        full = len(self._recipe.widths) - 1
        if full not in self._trained and needs_widest(self._recipe.loss):
            with torch.no_grad():
                widest = self._features(images, full)
        for index in reversed(chosen):
            features = self._features(images, index)
            result = self._loss(features, images, classes, index, widest, step)
            self._differentiate(result.loss, index, first)
            results[index] = WidthLoss(result.loss.detach(), result.uncertainty)
            if index == full:
                widest = features.detach()
        return results

    def _features(self, images: Tensor, index: int) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._recipe.optimiser.bf16):
            features: Tensor = self._embed(self._family, self._leaves.get(index, {}), (images, index))
        return features

    def _loss(
        self, features: Tensor, images: Tensor, classes: Tensor, index: int, widest: Tensor | None, step: int
    ) -> WidthLoss:
        recipe, classifier = self._recipe, self._classifiers[index]
        full = index == len(recipe.widths) - 1
        result = width_loss(
            features, classes, classifier, full=full, widest=widest, step=step, section=recipe.loss
        )
        loss = result.loss
        if recipe.teacher is not None and self._teacher is not None:
            if recipe.teacher.classify:
                logits = self._teacher.classifier(features)
                loss = loss + recipe.teacher.classify * nn.functional.cross_entropy(logits, classes)
            if recipe.teacher.distil:
                distance = self._teacher.distance(features, images, recipe.widths[index])
                loss = loss + recipe.teacher.distil * distance
        if not torch.isfinite(loss) or loss.abs() > _EXPLODED:
            raise DivergenceError(
                f"the loss of width {recipe.width_names[index]} is {float(loss.detach())} at step {step}: "
                "lower optimiser.lr or set optimiser.clip_norm"
            )
        return WidthLoss(loss, result.uncertainty)

    def _differentiate(self, loss: Tensor, index: int, first: bool) -> None:
        shared, private = [*self._leaves[index].values(), *self._whole], self._private[index]
        found = torch.autograd.grad(loss, [*shared, *private], materialize_grads=True)
        self._rows.put(self._trained.index(index), list(found[: len(shared)]), add=not first)
        for parameter, gradient in zip(private, found[len(shared) :], strict=True):
            parameter.grad = gradient if first or parameter.grad is None else parameter.grad + gradient

    def _make_parts(self, scope: str) -> list[Tensor] | None:
        """Positions that are aggregated by themselves; None: all of them together."""
        if scope == "flat":
            return None
        if scope == "overlap":
            return shells(self._reached())
        positions = torch.arange(self._rows.values.shape[1], device=self._rows.values.device)
        return list(torch.split(positions, [parameter.numel() for parameter in self._shared]))

    def _reached(self) -> Tensor:
        family = torch.stack([self._family.reached(index) for index in self._trained])
        rest = self._rows.values.shape[1] - family.shape[1]
        whole = torch.ones(len(self._trained), rest, dtype=torch.bool, device=family.device)
        return torch.cat([family, whole], dim=1)

    def _summary(self, found: dict[int, WidthLoss], chosen: Sequence[int], update: Aggregate) -> Step:
        norms = dict(zip(chosen, update.norms.tolist(), strict=True))
        if not self._shared:
            norms = {i: float(_norm([p.grad for p in self._private[i] if p.grad is not None])) for i in norms}
        return Step(
            {index: float(result.loss) for index, result in sorted(found.items())},
            {i: float(r.uncertainty) for i, r in sorted(found.items()) if r.uncertainty is not None},
            norms,
            update.conflicts,
        )


def _leaves(family: Family, index: int) -> dict[str, Tensor]:
    """What a width uses of the shared parameters, by their names, to be differentiated by.

    Views, so they follow the optimiser; with the whole parameters, every width would make zeros for all the rest.
    """
    names = {id(parameter): name for name, parameter in family.named_parameters()}
    pairs = zip(family.shared_parameters(), family.leading(index), strict=True)
    return {names[id(whole)]: part.detach().requires_grad_() for whole, part in pairs}


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    return norm
