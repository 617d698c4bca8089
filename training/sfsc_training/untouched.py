"""The pretrained network as it came: what a training from its weights is measured against.

It is scored by its pooled features at full width: as they are, and with the linear map that `sfsc-train adopt`
would fit to the training images, where that chooses one. Both cost no training.
"""

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from sfsc_bundle.progress import bar
from sfsc_bundle.retrieval import Scores, evaluate
from sfsc_training.adopt.fit import fit_maps
from sfsc_training.alignment import Sample, Validation, align
from sfsc_training.checkpoint import read_recipe
from sfsc_training.config import NetworkSection, Recipe, load_recipe, packaged_recipes
from sfsc_training.data.dataset import Dataset, Split
from sfsc_training.data.images import load_split
from sfsc_training.device import Device
from sfsc_training.embed import unit_rows
from sfsc_training.errors import CheckpointError
from sfsc_training.evaluation import Floats, embed_split
from sfsc_training.networks.backbone import make_backbone, pooled_features
from sfsc_training.networks.switchable import Switchable, make_switchable_family
from sfsc_training.run import Run
from sfsc_training.sign_flips import probability_of_less

__all__ = [
    "ENOUGH_IDENTITIES",
    "evaluate_untouched",
    "first_weights",
    "print_untouched",
    "reason_to_keep_untouched",
    "shortfall",
    "untouched_dimension",
]

ENOUGH_IDENTITIES = 5
"""Of validation. Of fewer, all are lower by chance more often than in 5 % (2⁻⁴): they say nothing of others."""

_CHANCE = 0.05
"""Below it, a lower mAP than the untouched network's is no accident of the identities that were drawn."""

_WIDTH = "1.0"
_BATCH = 128
_LONGEST_CHAIN = 100  # of runs that start from one another


def evaluate_untouched(
    recipe: Recipe, dataset: Dataset, part: str, device: Device, console: Console
) -> dict[str, Any] | None:
    """mAP and rank-1 of the untouched network on a split, its name, and under `mapped` the same with a map.

    `mapped` is None where no map helps, and on validation identities, which the map is chosen by. None for a run
    that did not begin from pretrained weights, itself or as the run that it was started from.

    Args:
        part: test or validation.

    Raises:
        DataError: the split has no images, or one cannot be read.
    """
    section = first_weights(recipe)
    if section is None:
        return None
    network = _network(section, device)
    split, rows = _embed(network, dataset.part(part), recipe, console)
    mapped = _with_map(network, split, rows, dataset, recipe, console) if part == "test" else None
    return _described(section, recipe, _score(split, rows), mapped)


def untouched_dimension(recipe: Recipe) -> int:
    """How many numbers an embedding of the untouched network has: those of its pooled feature."""
    section = first_weights(recipe)
    assert section is not None
    bare = section.model_copy(update={"pretrained": False, "weights": None, "weights_file": None})
    with torch.device("meta"):  # only its shape is looked at
        return pooled_features(make_backbone(bare))


def print_untouched(found: Mapping[str, Any], part: str, console: Console) -> None:
    """Print the scores of the untouched network."""
    rows = {"as it came": found} | ({"with a map, as adopt makes it": found["mapped"]} if found["mapped"] else {})
    scores = "; ".join(f"{how}: mAP {row['mean_ap']:.1f}, rank-1 {row['rank1']:.1f}" for how, row in rows.items())
    console.print(f"untouched network ({found['network']}), {part}, {scores}", highlight=False, soft_wrap=True)


def shortfall(found: Mapping[str, Any], full: float, recipe: Recipe, data: Path) -> str | None:
    """A sentence where width 1.0 of a run, with mAP `full`, ends below the untouched network; else None."""
    best = max(found["mean_ap"], found["mapped"]["mean_ap"] if found["mapped"] else 0.0)
    if full >= best:
        return None
    return (
        f"width 1.0 has {full:.1f} mAP, less than the network that it began from has without any training "
        f"({best:.1f}), which this makes a bundle of: {_adopt_command(recipe, data)}"
    )


def reason_to_keep_untouched(run: Run, dataset: Dataset, console: Console) -> str | None:
    """Why the untouched network is to be width 1.0 rather than the trained one; None where it is not.

    Validation identities decide, whose scores are printed. Fewer than 5 show nothing: then training may have
    helped or not, and what is known to work is kept. Of 5 and more, the trained network is replaced where its mAP
    is lower than the untouched one's by more than chance: where less than 5 % of all ways to flip the signs of
    the differences, identity by identity, give one as low (`probability_of_less`).
    """
    split, section = dataset.validation, first_weights(run.recipe)
    if run.recipe.width_names[-1] != _WIDTH or section is None:
        return None
    identities = len(split.searchable())
    if split.can_be_scored():
        device = next(run.family.parameters()).device.type
        network = _network(section, "cuda" if device == "cuda" else "cpu")
        readable, before = _embed(network, split, run.recipe, console)
        after = embed_split(run, readable, console).embeddings[_WIDTH]
        untouched, trained = _score(readable, before), _score(readable, after)
        print_untouched(_described(section, run.recipe, untouched, None), "validation", console)
        console.print(
            f"width 1.0, validation: mAP {trained.mean_ap:.1f}, rank-1 {trained.rank1:.1f}", highlight=False
        )
        if identities >= ENOUGH_IDENTITIES:
            return _lower_by_more_than_chance(readable, before, after, console)
    return f"{identities} validation identities, fewer than {ENOUGH_IDENTITIES}, cannot show that training helped"


def _lower_by_more_than_chance(split: Split, before: Floats, after: Floats, console: Console) -> str | None:
    """Args: before, after: embeddings of the untouched and of the trained network, float32 [n, D] and [n, D′]."""
    untouched, trained = _score(split, before).mean_ap, _score(split, after).mean_ap
    if trained >= untouched:
        return None
    chance = probability_of_less(_by_identity(split, after) - _by_identity(split, before))
    identities = len(split.searchable())
    found = f"on {identities} validation identities, the untouched network {untouched:.1f}"
    sentence = f"width 1.0 has {trained:.1f} mAP {found} (as low by chance: {100 * chance:.1f} %)"
    if chance < _CHANCE:
        return sentence
    console.print(f"{sentence}, which shows no loss: the trained network stays", highlight=False, soft_wrap=True)
    return None


def _by_identity(split: Split, rows: Floats) -> npt.NDArray[np.float64]:
    """Sums of the average precision of the queries of each identity that can be searched for, float64 [n].

    Divided by the number of all queries, they add up to the mAP. Images of one identity are no independent sample.
    """
    labels, gallery = split.labels(), split.gallery
    sums = []
    for identity in split.searchable():
        query = split.query[split.classes[split.query] == identity]
        found = evaluate(rows[query], labels.take(query), rows[gallery], labels.take(gallery))
        sums.append(found.mean_ap * found.queries)
    return np.array(sums, dtype=np.float64)


def first_weights(recipe: Recipe) -> NetworkSection | None:
    """The network section with the pretrained weights that a run began from, through the runs before it."""
    section = recipe.network
    for _ in range(_LONGEST_CHAIN):
        if section.start is None:
            return section if section.from_weights else None
        try:
            section = read_recipe(section.start).network
        except CheckpointError:  # moved or removed since
            return None
    return None


def _network(section: NetworkSection, device: Device) -> Switchable:
    return make_switchable_family(section, [1.0]).to(memory_format=torch.channels_last).to(device).eval()


def _described(section: NetworkSection, recipe: Recipe, scores: Scores, mapped: Scores | None) -> dict[str, Any]:
    return {
        "network": f"{section.backbone} at {recipe.data.height} × {recipe.data.width} pixels",
        **asdict(scores),
        "mapped": None if mapped is None else asdict(mapped),
    }


def _embed(network: Switchable, split: Split, recipe: Recipe, console: Console) -> tuple[Split, Floats]:
    split, images = load_split(split, recipe.data)
    device = next(network.parameters()).device
    with bar(console, "embedding, untouched", math.ceil(len(images) / _BATCH)) as progress:
        return split, unit_rows(network.pooled, images, torch.device(device), progress.advance, batch=_BATCH)


def _score(split: Split, rows: Floats) -> Scores:
    labels, query, gallery = split.labels(), split.query, split.gallery
    return evaluate(rows[query], labels.take(query), rows[gallery], labels.take(gallery))


def _with_map(
    network: Switchable, test: Split, rows: Floats, dataset: Dataset, recipe: Recipe, console: Console
) -> Scores | None:
    if len(dataset.train.paths) < rows.shape[1]:  # too few for a map
        return None
    train, labelled = _embed(network, dataset.train, recipe, console)
    validation = None
    if dataset.validation.can_be_scored():
        split, held_out = _embed(network, dataset.validation, recipe, console)
        validation = Validation(Sample({_WIDTH: held_out}), split.labels(), split.query, split.gallery)
    maps = fit_maps(Sample({_WIDTH: labelled}, train.classes), None, validation).maps
    return _score(test, align({_WIDTH: rows}, maps)[_WIDTH]) if maps else None


def _adopt_command(recipe: Recipe, data: Path) -> str:
    match first_weights(recipe):
        case NetworkSection(weights=str(name)):
            network = ["--weights", name]
        case NetworkSection(pretrained=True, backbone=backbone):
            network = ["--model", f"timm:{backbone}"]
        case _:
            network = ["--model", "ITS-GRAPH.onnx"]
    words = ["sfsc-train", "adopt", *network, "--size", f"{recipe.data.height}x{recipe.data.width}"]
    words += [*_read_as(recipe), "--data", str(data), "--to", f"models/{recipe.name}-untouched"]
    return shlex.join(words)


def _read_as(recipe: Recipe) -> list[str]:
    """The options that make adopt divide the data as a run did."""
    packaged = {name: load_recipe(name) for name in packaged_recipes()}
    alike = [name for name, one in packaged.items() if (one.data, one.seed) == (recipe.data, recipe.seed)]
    if alike:
        return ["--recipe", min(alike, key=lambda name: (name != recipe.name, len(name)))]
    given = recipe.data.model_dump(mode="json", exclude_defaults=True, exclude={"height", "width", "vehicles"})
    settings = [f"seed={recipe.seed}", *(f"data.{key}={json.dumps(value)}" for key, value in given.items())]
    return [word for setting in settings for word in ("--set", setting)]
