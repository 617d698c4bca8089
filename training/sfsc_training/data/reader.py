"""Data sets and their splits, and the reader of plain folders.

A folder is `DIR/{train,test}/IDENTITY/IMAGE`, or `DIR/IDENTITY/IMAGE`, whose identities the seed divides.
"""

import fnmatch
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sfsc_bundle.image_formats import SUFFIXES
from sfsc_bundle.retrieval import Labels
from sfsc_training.config import DataSection
from sfsc_training.errors import DataError

__all__ = ["Dataset", "Split", "digest", "divide", "read_folder"]

Identity = TypeVar("Identity")


@dataclass(frozen=True, slots=True)
class Split:
    """The images of one part of a data set, with their identities and roles.

    `paths` [n]; `names` [n]: paths below the data folder; `classes` [n]: class numbers 0, 1, …, or −1 for images
    that no metric counts; `identities`: the name of each class; `cameras` [n], or None where they are unknown;
    `query` and `gallery`: positions of the images with that role.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    classes: npt.NDArray[np.int64]
    identities: tuple[str, ...]
    cameras: npt.NDArray[np.int64] | None
    query: npt.NDArray[np.int64]
    gallery: npt.NDArray[np.int64]

    def labels(self) -> Labels:
        """Identity, camera and number of every image, for the retrieval metrics."""
        return Labels(self.classes, self.cameras, np.arange(len(self.paths), dtype=np.int64))

    def take(self, kept: npt.NDArray[np.int64]) -> "Split":
        """The split with the images at positions `kept` only; identities keep their numbers."""
        place = np.full(len(self.paths), -1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        query, gallery = (place[rows][place[rows] >= 0] for rows in (self.query, self.gallery))
        return Split(
            tuple(self.paths[row] for row in kept),
            tuple(self.names[row] for row in kept),
            self.classes[kept],
            self.identities,
            None if self.cameras is None else self.cameras[kept],
            query,
            gallery,
        )

    def protocol(self) -> str:
        """The protocol in words, for reports and manifests."""
        if len(self.query) == len(self.gallery) == len(self.paths):
            roles = "every image queries all others"
        else:
            roles = f"{len(self.query)} queries against {len(self.gallery)} gallery images"
        return roles + (", own camera excluded" if self.cameras is not None else "")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Three splits without a common identity.

    `sha256`: digest of the names and contents of all images; `licence`: of a published set; None: see the recipe.
    """

    train: Split
    validation: Split
    test: Split
    sha256: str
    licence: str | None = None

    def part(self, name: str) -> Split:
        """The test or validation split. Raises DataError for another name."""
        if name not in ("test", "validation"):
            raise DataError(f"split must be test or validation; found {name!r}")
        return self.test if name == "test" else self.validation


def read_folder(folder: Path, section: DataSection, seed: int) -> Dataset:
    """Read names and roles of all images of a folder; none is decoded.

    Raises:
        DataError: there is no such folder, too few identities, an identity without images, a file name that the
            camera pattern does not match, or a split without queries or gallery.
    """
    if not folder.is_dir():
        raise DataError(f"data folder {folder} does not exist")
    random = np.random.default_rng(seed)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        rest, test = _identities(folder / "train"), _identities(folder / "test")
        shared = sorted({path.name for path in rest} & {path.name for path in test})
        if shared:
            raise DataError(f"{folder}: train and test must not share identities, both have {shared[0]}")
    else:
        rest, test = divide(_identities(folder), section.test_share, random)
    train, validation = divide(rest, section.validation_share, random)
    if len(train) < 2:
        raise DataError(f"{folder}: training needs at least 2 identities; found {len(train)}")
    training, choice, final = (_split(folder, part, section) for part in (train, validation, test))
    return Dataset(training, choice, final, digest((training, choice, final)))


def _identities(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise DataError(f"{folder} has no identity folders; images must lie at IDENTITY/IMAGE")
    return found


def divide(
    identities: Sequence[Identity], share: float, random: np.random.Generator
) -> tuple[list[Identity], list[Identity]]:
    """Divide identities at random into 1 − share and share of them; both keep their order."""
    given = set(random.permutation(len(identities))[: round(share * len(identities))].tolist())
    kept = [path for number, path in enumerate(identities) if number not in given]
    return kept, [path for number, path in enumerate(identities) if number in given]


def _split(root: Path, identities: Sequence[Path], section: DataSection) -> Split:
    paths: list[Path] = []
    classes: list[int] = []
    for number, identity in enumerate(identities):
        images = sorted(path for path in identity.iterdir() if path.suffix.lower() in SUFFIXES)
        if not images:
            raise DataError(f"identity {identity} has no image: no file ends in {', '.join(SUFFIXES)}")
        paths += images
        classes += [number] * len(images)
    query, gallery = _roles(paths, section)
    if identities and not (len(query) and len(gallery)):
        raise DataError(
            f"{root}: data.query = {section.query!r} and data.gallery = {section.gallery!r} leave {len(query)} "
            f"queries and {len(gallery)} gallery images of {len(paths)}"
        )
    return Split(
        tuple(paths),
        tuple(path.relative_to(root).as_posix() for path in paths),
        np.array(classes, dtype=np.int64),
        tuple(identity.name for identity in identities),
        _cameras(paths, section.camera),
        query,
        gallery,
    )


def _roles(paths: Sequence[Path], section: DataSection) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    everything = np.arange(len(paths), dtype=np.int64)

    def matches(pattern: str) -> npt.NDArray[np.bool_]:
        return np.array([fnmatch.fnmatchcase(path.name, pattern) for path in paths], dtype=np.bool_)

    is_query = matches(section.query) if section.query else None
    if section.gallery:
        is_gallery = matches(section.gallery)
        return everything if is_query is None else everything[is_query], everything[is_gallery]
    if is_query is None:
        return everything, everything
    # With cameras the gallery holds every image: the metrics drop a query's own camera per query.
    return everything[is_query], everything if section.camera else everything[~is_query]


def _cameras(paths: Sequence[Path], pattern: str | None) -> npt.NDArray[np.int64] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"data.camera {pattern!r} is not a regular expression: {error}") from error
    if compiled.groups != 1:
        raise DataError(f"data.camera {pattern!r} must have one group; found {compiled.groups}")
    names = [_camera(path, compiled) for path in paths]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _camera(path: Path, pattern: re.Pattern[str]) -> str:
    found = pattern.search(path.name)
    if found is None:
        raise DataError(f"data.camera {pattern.pattern!r} does not match the file name {path.name}")
    return found.group(1)


def digest(splits: Sequence[Split], read: Callable[[Path], bytes] = Path.read_bytes) -> str:
    """Digest (sha256) of the names and contents of all images."""
    found = hashlib.sha256()
    images = sorted((name, path) for split in splits for name, path in zip(split.names, split.paths, strict=True))
    for name, path in images:
        found.update(name.encode() + b"\0" + hashlib.sha256(read(path)).digest())
    return found.hexdigest()
