"""The files of a run folder.

RUN/checkpoint.pt   all state of the loop: network, classifier, optimiser, averages, step
RUN/recipe.json     the recipe with all its defaults
RUN/labels.json     the identities of the classifier, in the order of its classes
RUN/data.json       the images of each split (see `run_data`)
RUN/history.jsonl   one line per logged step (see `history`)
RUN/teacher.json    the teacher, where there is one
RUN/arithmetic.json what the training took (see `arithmetic_file`)
RUN/.lock           held by the process that trains (see `run_lock`)
RUN/alignment.*     the maps of the widths and what they are (see `alignment_file`)
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfsc_bundle.atomic_file import replacing, write_file
from sfsc_bundle.manifest import Normalisation
from sfsc_training.config import NetworkSection, Recipe, parse_recipe
from sfsc_training.errors import CheckpointError, FailedError, RecipeError
from sfsc_training.networks.normalise import default_normalisation

__all__ = [
    "Best",
    "Checkpoint",
    "digest_weights",
    "has_checkpoint",
    "older_space",
    "read_checkpoint",
    "read_labels",
    "read_recipe",
    "read_step",
    "write_checkpoint",
    "write_json",
]

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Best:
    """The weights after `step` steps, with the best `score` on validation identities so far (`early_stopping`)."""

    step: int
    score: float
    network: Mapping[str, Tensor]
    classifier: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All state of the loop after `step` steps; without random state: draws are functions of (seed, step).

    `normalisation`: fields of the network's `Normalisation`; None in a run of an earlier version, whose network
    had the default of its channels, whatever its first weights were trained with. `finished`: no step is left.
    """

    step: int
    recipe_sha256: str
    data_sha256: str
    network: Mapping[str, Tensor]
    classifier: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]
    averaged: Mapping[str, Mapping[str, Any]] | None = None
    teacher_sha256: str | None = None
    normalisation: Mapping[str, Sequence[float]] | None = None
    best: Mapping[str, Any] | None = None
    finished: bool = False

    @property
    def best_weights(self) -> Best | None:
        """Those that early stopping has kept; None where the recipe has none."""
        return None if self.best is None else Best(**self.best)

    @property
    def result_step(self) -> int:
        """After how many steps the run had the weights of `result`."""
        return self.step if self.best is None else int(self.best["step"])

    def result(self) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """The weights of network and classifier that count: the best, else the averaged ones, else the last."""
        if self.best is not None:
            return self.best["network"], self.best["classifier"]
        if self.averaged is None:
            return self.network, self.classifier
        return _inside(self.averaged["network"]), _inside(self.averaged["classifier"])

    def normalisation_of(self, section: NetworkSection) -> Normalisation:
        """What the network that was trained does to its input first."""
        if self.normalisation is None:
            return default_normalisation(section.image_channels)
        return Normalisation.model_validate(self.normalisation)

    @property
    def weights_sha256(self) -> str:
        """Digest of the weights of the network; identifies the embedding space."""
        return digest_weights(self.result()[0])


def digest_weights(tensors: Mapping[str, Tensor]) -> str:
    """Hex digest (sha256) of names and values."""
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        digest.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _inside(averaged: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of the module inside torch's AveragedModel."""
    return {name.removeprefix("module."): v for name, v in averaged.items() if name.startswith("module.")}


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the run's checkpoint atomically: a run killed at any moment leaves the old one or the new one.

    Raises:
        FailedError: it cannot be written; the old one is still there.
    """
    content = {"format": _FORMAT} | {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
    path = folder / "checkpoint.pt"
    try:
        with replacing(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch wraps what the file raises
        raise FailedError(f"{path} cannot be written: {_cause(error)}; the run can be resumed") from error


def _cause(error: BaseException) -> str:
    """The first line of the first error of a chain."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).splitlines()[0]


def has_checkpoint(folder: Path) -> bool:
    """Whether a run was trained at all: one that ended before its first checkpoint left nothing to go on from."""
    return (folder / "checkpoint.pt").exists()


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The run's checkpoint; None where there is none yet. Raises CheckpointError where it cannot be read."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # torch.load raises many classes on a damaged or foreign file
        # Its message advises to load the file in a way that runs what is in it.
        raise CheckpointError(f"{path} cannot be read as a checkpoint: damaged, or of another kind") from error
    if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of format {_FORMAT}")
    try:
        return Checkpoint(**content)
    except TypeError as error:
        raise CheckpointError(f"{path} is not a checkpoint of format {_FORMAT} ({error})") from error


def read_step(folder: Path) -> int:
    """The step of the run's checkpoint, without its tensors; 0 where there is none that can be read."""
    try:
        content = torch.load(folder / "checkpoint.pt", map_location="meta", weights_only=True)
        return int(content["step"])
    except Exception:  # torch.load raises many classes on a damaged or foreign file
        return 0


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run. Raises CheckpointError where the folder holds no run."""
    path = folder / "recipe.json"
    try:
        return parse_recipe(json.loads(path.read_text()), str(path))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not a run folder: it has no {path.name}") from error
    except (OSError, ValueError, RecipeError) as error:
        raise CheckpointError(f"{folder} is not a run folder: {path.name} cannot be used ({error})") from error


def read_labels(folder: Path) -> tuple[str, ...]:
    """The identities of a run's classifier. Raises CheckpointError where the list is missing."""
    path = folder / "labels.json"
    try:
        return tuple(str(name) for name in json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder} is not a run folder: {path.name} cannot be used ({error})") from error


def older_space(folder: Path) -> str | None:
    """Id of the older embedding space that a run was trained to be compatible with; None where there is none."""
    path = folder / "teacher.json"
    if not path.exists():
        return None
    teacher = json.loads(path.read_text())
    return str(teacher["space"]) if teacher["compatible"] else None


def write_json(path: Path, content: object) -> None:
    """Write a JSON document atomically."""
    write_file(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
