"""RUN/data.json: the images that a run was trained on, chosen by and held out, and what became of them since.

A data folder may gain and lose images after a training. Its identities then stay where the training had them, so
that none that was trained on gets into the test; what has changed is counted.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sfsc_bundle.atomic_file import write_file
from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.manifest import Sha256
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.division import Division, Part
from sfsc_training.data.image_name import Identity, ImageName
from sfsc_training.errors import CheckpointError

__all__ = ["Changes", "RunData", "changes_since", "read_run_data", "write_run_data"]

_FILE = "data.json"


class RunData(BaseModel):
    """`splits`: part → identity → name of an image → sha256 of its file; `left_out`: name → sha256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    splits: Mapping[Part, Mapping[Identity, Mapping[ImageName, Sha256]]]
    left_out: Mapping[ImageName, Sha256]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if missing := set(get_args(Part)) - set(self.splits):
            raise ValueError(f"splits must have {', '.join(get_args(Part))}; {min(missing)} is missing")
        for what, found in (
            ("identity", [identity for part in self.splits.values() for identity in part]),
            ("image", [name for part in self.splits for name in self._names(part)]),
        ):
            twice = next((name for name, count in Counter(found).items() if count > 1), None)
            if twice is not None:
                raise ValueError(f"an {what} must be listed once, found {twice!r} more than once")
        return self

    def _names(self, part: Part) -> list[str]:
        return [name for images in self.splits[part].values() for name in images]

    def division(self, others: Part | None) -> Division:
        """Where each identity belongs, and where those belong that the run does not know."""
        return Division({name: part for part in self.splits for name in self.splits[part]}, others)

    def images(self, part: Part) -> dict[str, str]:
        """Name → sha256 of the images of one part."""
        return {name: sha for images in self.splits[part].values() for name, sha in images.items()}


@dataclass(frozen=True, slots=True)
class Changes:
    """How many images of a data set are new, gone or have other content, compared with a training.

    `renamed`: how many have the content of a training image under another name; they are neither new nor gone.
    """

    gained: int
    lost: int
    altered: int
    renamed: int = 0

    def __str__(self) -> str:
        """`3 images more, 1 fewer and 2 with other content; 1 has another name`."""
        names = f"; {self.renamed} {'has' if self.renamed == 1 else 'have'} another name" if self.renamed else ""
        return f"{self.gained} images more, {self.lost} fewer and {self.altered} with other content{names}"

    def __bool__(self) -> bool:
        return bool(self.gained or self.lost or self.altered or self.renamed)

    @property
    def of_content(self) -> bool:
        """Whether other images are there than before, not the same ones under other names."""
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

    Images are known by their name, and by their content where the name is new.

    Raises:
        CheckpointError: it has no image of the training, or an identity or image that was trained on is held out
            now.
    """
    before = {name: sha for part in trained.splits for name, sha in trained.images(part).items()}
    now = {
        name: content
        for split in dataset.splits.values()
        for name, content, number in zip(split.names, split.contents, split.classes.tolist(), strict=True)
        if number >= 0 and trained.left_out.get(name) != content
    }
    common = before.keys() & now.keys()
    gone = Counter(before[name] for name in before.keys() - now.keys())
    renamed = (Counter(now[name] for name in now.keys() - before.keys()) & gone).total()
    if not common and not renamed:
        raise CheckpointError(f"--data has none of the {len(before)} images that the run was trained with")
    held_out = {*dataset.validation.identities, *dataset.test.identities}
    leaked = sorted(held_out & set(trained.splits["train"]))
    if leaked:
        raise CheckpointError(
            f"{len(leaked)} identities that the run was trained on are held out now, such as {leaked[0]}; "
            "figures on them would not be honest"
        )
    trained_on = set(trained.images("train").values())
    for split in (dataset.validation, dataset.test):
        seen = [name for name, content in zip(split.names, split.contents, strict=True) if content in trained_on]
        if seen:
            raise CheckpointError(
                f"{len(seen)} images that the run was trained on are held out now under another name, such as "
                f"{seen[0]}; figures on them would not be honest"
            )
    altered = sum(before[name] != now[name] for name in common)
    return Changes(len(now) - len(common) - renamed, len(before) - len(common) - renamed, altered, renamed)
