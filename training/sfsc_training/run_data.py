"""RUN/data.json: the images that a run was trained on, chosen by and held out, and what became of them since.

A data folder may gain and lose images after a training. Its identities then stay where the training had them, so
that none that was trained on gets into the test; what has changed is counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from sfsc_bundle.atomic_file import write_file
from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.division import Division, Part
from sfsc_training.errors import CheckpointError

__all__ = ["Changes", "RunData", "changes_since", "read_run_data", "write_run_data"]

_FILE = "data.json"


class RunData(BaseModel):
    """`splits`: part → identity → name of an image → sha256 of its file; `left_out`: name → sha256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    splits: Mapping[Part, Mapping[str, Mapping[str, str]]]
    left_out: Mapping[str, str]

    def division(self, others: Part | None) -> Division:
        """Where each identity belongs, and where those belong that the run does not know."""
        return Division({name: part for part in self.splits for name in self.splits[part]}, others)

    def images(self, part: Part) -> dict[str, str]:
        """Name → sha256 of the images of one part."""
        return {name: sha for images in self.splits[part].values() for name, sha in images.items()}


@dataclass(frozen=True, slots=True)
class Changes:
    """How many images of a data set are new, gone or have other content, compared with a training."""

    gained: int
    lost: int
    altered: int

    def __str__(self) -> str:
        """`3 images more, 1 fewer and 2 with other content`."""
        return f"{self.gained} images more, {self.lost} fewer and {self.altered} with other content"

    def __bool__(self) -> bool:
        return bool(self.gained or self.lost or self.altered)


def write_run_data(folder: Path, dataset: Dataset) -> None:
    """Store which images a run is about to be trained on."""
    splits: dict[Part, dict[str, dict[str, str]]] = {}
    for part in get_args(Part):
        split = dataset.splits[part]
        found: dict[str, dict[str, str]] = {identity: {} for identity in split.identities}
        for name, content, number in zip(split.names, split.contents, split.classes.tolist(), strict=True):
            if number >= 0:
                found[split.identities[number]][name] = content
        splits[part] = found
    document = RunData(splits=splits, left_out=dataset.undecodable)
    write_file(folder / _FILE, document.model_dump_json().encode())


def read_run_data(folder: Path) -> RunData | None:
    """The images of a run; None where it stored none. Raises CheckpointError where the file cannot be used."""
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        return RunData.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{path} cannot be used: {first_broken_rule(error)}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def changes_since(trained: RunData, dataset: Dataset) -> Changes:
    """What has changed in a data set since a training.

    Raises:
        CheckpointError: it has no image of the training, or an identity that was trained on is held out now.
    """
    before = {name: sha for part in trained.splits for name, sha in trained.images(part).items()}
    now = {
        name: content
        for split in dataset.splits.values()
        for name, content, number in zip(split.names, split.contents, split.classes.tolist(), strict=True)
        if number >= 0 and trained.left_out.get(name) != content
    }
    common = before.keys() & now.keys()
    if not common:
        raise CheckpointError(f"--data has none of the {len(before)} images that the run was trained with")
    held_out = {*dataset.validation.identities, *dataset.test.identities}
    leaked = sorted(held_out & set(trained.splits["train"]))
    if leaked:
        raise CheckpointError(
            f"{len(leaked)} identities that the run was trained on are held out now, such as {leaked[0]}; "
            "figures on them would not be honest"
        )
    altered = sum(before[name] != now[name] for name in common)
    return Changes(len(now) - len(common), len(before) - len(common), altered)
