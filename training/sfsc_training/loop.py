"""The training loop: all of SFSC in one screen. Everything it knows is in the checkpoint."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from sfsc_training.aggregation.aggregate import Aggregate, aggregate, shells
from sfsc_training.checkpoint import Checkpoint, read_checkpoint, read_recipe, write_checkpoint, write_json
from sfsc_training.config import OptimiserSection, Recipe
from sfsc_training.data.augmentation import Augmentation
from sfsc_training.data.batches import Batches, make_loader
from sfsc_training.data.pictures import load_pictures
from sfsc_training.data.reader import Dataset
from sfsc_training.errors import CheckpointError, DivergenceError
from sfsc_training.losses.objective import Classifier, WidthLoss, width_loss
from sfsc_training.networks.family import Family, make_family
from sfsc_training.progress import bar

__all__ = ["Running", "learning_rate", "train"]

_LOG_EVERY = 25


@dataclass(frozen=True, slots=True)
class Running:
    """How a run is carried out; nothing here changes its result on one machine."""

    threads: int = 2
    workers: int = 1
    checkpoint_every: int = 250


def train(recipe: Recipe, dataset: Dataset, folder: Path, console: Console, running: Running) -> Family:
    """Train all widths of a recipe, or go on from the folder's checkpoint.

    Raises:
        CheckpointError: the folder holds a run of another recipe, network or data.
        DataError: a picture cannot be read.
        DivergenceError: a loss is no longer finite; names width and step.
        NetworkError: the backbone cannot be made switchable.
    """
    torch.set_num_threads(running.threads)
    torch.manual_seed(recipe.seed)
    family = make_family(recipe.network, recipe.widths).to(memory_format=torch.channels_last)
    classifier = Classifier(recipe.network.dimension, len(dataset.train.identities), recipe.loss)
    optimiser = _make_optimiser(family, classifier, recipe.optimiser)
    start = _open_run(folder, recipe, dataset, family, classifier, optimiser)
    batches = _make_batches(recipe, dataset, start, console)
    gradients = _WidthGradients(family, classifier, recipe)
    history = (folder / "history.jsonl").open("a")
    with history, bar(console, recipe.name, recipe.optimiser.steps, done=start) as progress:
        began = time.monotonic()
        family.train()
        for step, (images, classes) in enumerate(make_loader(batches, running.workers), start):
            rate = learning_rate(step, recipe.optimiser)
            losses, update = gradients.step(images, classes, step)
            if recipe.optimiser.clip_norm:
                nn.utils.clip_grad_norm_(gradients.parameters, recipe.optimiser.clip_norm)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            speed = (step - start + 1) * len(images) / (time.monotonic() - began)
            progress.advance(f"loss {float(losses[-1].loss):.3f}  lr {rate:.1e}  {speed:.0f} images/s")
            last = step + 1 == recipe.optimiser.steps
            if step % _LOG_EVERY == 0 or last:
                history.write(json.dumps(_line(step, rate, speed, recipe.width_names, losses, update)) + "\n")
            if last or (step + 1) % running.checkpoint_every == 0:
                history.flush()
                _save(folder, step + 1, recipe, dataset, family, classifier, optimiser)
    return family


def learning_rate(step: int, section: OptimiserSection) -> float:
    """Linear warm-up to `lr`, then a cosine to zero at the last step."""
    if step < section.warmup_steps:
        return section.lr * (step + 1) / section.warmup_steps
    done = (step - section.warmup_steps) / max(1, section.steps - section.warmup_steps)
    return section.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class _WidthGradients:
    """One backward pass per width; their gradients, combined, are left in `.grad`."""

    def __init__(self, family: Family, classifier: Classifier, recipe: Recipe) -> None:
        self._family, self._classifier, self._recipe = family, classifier, recipe
        self._shared = [*family.shared_parameters(), *classifier.parameters()]
        self._private = [family.private_parameters(index) for index in range(len(recipe.widths))]
        self.parameters = [*self._shared, *(parameter for part in self._private for parameter in part)]
        count = sum(parameter.numel() for parameter in self._shared)
        self._rows = torch.zeros(len(recipe.widths), count)
        self._parts = shells(self._reached()) if recipe.aggregation.scope == "overlap" else None

    def step(self, images: Tensor, classes: Tensor, step: int) -> tuple[list[WidthLoss], Aggregate]:
        """Fill `.grad` of every parameter from one batch."""
        losses = [self._backward(index, images, classes, step) for index in range(len(self._rows))]
        generator = torch.Generator().manual_seed(self._recipe.seed * 1_000_003 + step)
        update = aggregate(self._rows, self._recipe.aggregation, generator, self._parts)
        for parameter, part in zip(
            self._shared, torch.split(update.update, [p.numel() for p in self._shared]), strict=True
        ):
            parameter.grad = part.view_as(parameter)
        return losses, update

    def _reached(self) -> Tensor:
        family = torch.stack([self._family.reached(index) for index in range(len(self._rows))])
        whole = torch.ones(len(self._rows), self._rows.shape[1] - family.shape[1], dtype=torch.bool)
        return torch.cat([family, whole], dim=1)

    def _backward(self, index: int, images: Tensor, classes: Tensor, step: int) -> WidthLoss:
        full = index == len(self._rows) - 1
        with torch.autocast("cpu", torch.bfloat16, enabled=self._recipe.optimiser.bf16):
            features = self._family(images, index)
        with torch.autocast("cpu", enabled=False):
            logits = self._classifier(features)
            result = width_loss(logits, classes, full=full, step=step, section=self._recipe.loss)
        if not torch.isfinite(result.loss):
            width = self._recipe.width_names[index]
            raise DivergenceError(
                f"the loss of width {width} is {float(result.loss.detach())} at step {step}: "
                "lower optimiser.lr or set optimiser.clip_norm"
            )
        private = self._private[index]
        found = torch.autograd.grad(result.loss, [*self._shared, *private], materialize_grads=True)
        torch.cat([part.reshape(-1) for part in found[: len(self._shared)]], out=self._rows[index])
        for parameter, part in zip(private, found[len(self._shared) :], strict=True):
            parameter.grad = part
        return WidthLoss(result.loss.detach(), result.uncertainty)


def _make_batches(recipe: Recipe, dataset: Dataset, start: int, console: Console) -> Batches:
    split = dataset.train
    with bar(console, "reading pictures", len(split.paths)) as progress:
        pictures = load_pictures(split.paths, recipe.data, progress.advance)
    augmentation = Augmentation(recipe.augmentation, recipe.data.height, recipe.data.width)
    return Batches(
        pictures,
        split.classes,
        augmentation,
        size=min(recipe.optimiser.batch, len(split.classes)),
        seed=recipe.seed,
        start=start,
        stop=recipe.optimiser.steps,
    )


def _make_optimiser(family: Family, classifier: Classifier, section: OptimiserSection) -> torch.optim.Optimizer:
    everything = [*family.parameters(), *classifier.parameters()]
    groups = [
        {"params": [p for p in everything if p.ndim > 1], "weight_decay": section.weight_decay},
        {"params": [p for p in everything if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if section.kind == "sgd":
        return torch.optim.SGD(groups, lr=section.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=section.lr)


def _open_run(
    folder: Path,
    recipe: Recipe,
    dataset: Dataset,
    family: Family,
    classifier: Classifier,
    optimiser: torch.optim.Optimizer,
) -> int:
    """Start a run folder or load its checkpoint; the number of steps that are done."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "recipe.json").exists() and read_recipe(folder).sha256 != recipe.sha256:
        raise CheckpointError(f"{folder} holds a run of another recipe; give another --out")
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
        write_json(folder / "labels.json", dataset.train.identities)
        return 0
    if checkpoint.recipe_sha256 != recipe.sha256 or checkpoint.data_sha256 != dataset.sha256:
        changed = "recipe" if checkpoint.recipe_sha256 != recipe.sha256 else "data"
        raise CheckpointError(f"the checkpoint in {folder} is of other {changed}; give another --out")
    try:
        family.load_state_dict(checkpoint.network)
        classifier.load_state_dict(checkpoint.classifier)
        optimiser.load_state_dict(dict(checkpoint.optimiser))
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"the checkpoint in {folder} is of another network") from error
    return checkpoint.step


def _save(
    folder: Path,
    step: int,
    recipe: Recipe,
    dataset: Dataset,
    family: Family,
    classifier: Classifier,
    optimiser: torch.optim.Optimizer,
) -> None:
    state = (family.state_dict(), classifier.state_dict(), optimiser.state_dict())
    write_checkpoint(folder, Checkpoint(step, recipe.sha256, dataset.sha256, *state))


def _line(
    step: int, rate: float, speed: float, widths: Sequence[str], losses: Sequence[WidthLoss], update: Aggregate
) -> dict[str, object]:
    uncertainty = {
        width: float(loss.uncertainty)
        for width, loss in zip(widths, losses, strict=True)
        if loss.uncertainty is not None
    }
    return {
        "step": step,
        "lr": rate,
        "images_per_s": round(speed, 1),
        "loss": {width: float(loss.loss) for width, loss in zip(widths, losses, strict=True)},
        "uncertainty": uncertainty,
        "gradient_norm": dict(zip(widths, update.norms.tolist(), strict=True)),
        "conflicts": update.conflicts,
    }
