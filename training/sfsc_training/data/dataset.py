"""Data sets and their splits: which images there are, whose they are, and what part they play."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sfsc_bundle.retrieval import Labels
from sfsc_training.data.findings import Finding
from sfsc_training.data.member import ImageFile, Member
from sfsc_training.errors import DataError

__all__ = ["Dataset", "Split", "content_digest", "digest"]


@dataclass(frozen=True, slots=True)
class Split:
    """The images of one part of a data set, with their identities and roles.

    `paths` [n]: files, or members of shards; `names` [n]: paths below the data folder; `contents` [n]: sha256 of
    each; `classes` [n]: class numbers 0, 1, …, or −1 for images that no metric counts; `identities`: the name of
    each class; `cameras` [n], or None where they are unknown; `query` and `gallery`: positions of the images with
    that role.
    """

    paths: tuple[ImageFile, ...]
    names: tuple[str, ...]
    contents: tuple[str, ...]
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
            tuple(self.contents[row] for row in kept),
            self.classes[kept],
            self.identities,
            None if self.cameras is None else self.cameras[kept],
            query,
            gallery,
        )

    def take_identities(self, kept: npt.NDArray[np.int64]) -> "Split":
        """The images of the identities with the class numbers `kept`, ascending, which are numbered anew."""
        number = np.full(len(self.identities) + 1, -1, dtype=np.int64)  # the last one is class −1
        number[kept] = np.arange(len(kept))
        split = self.take(np.flatnonzero((self.classes < 0) | np.isin(self.classes, kept)))
        return Split(
            split.paths,
            split.names,
            split.contents,
            number[split.classes],
            tuple(self.identities[place] for place in kept),
            split.cameras,
            split.query,
            split.gallery,
        )

    def images_of(self) -> npt.NDArray[np.int64]:
        """How many images each identity has, int64 [identities]."""
        return np.bincount(self.classes[self.classes >= 0], minlength=len(self.identities)).astype(np.int64)

    def searchable(self) -> npt.NDArray[np.int64]:
        """The class numbers of identities with a query that has a valid match in the gallery, ascending."""
        cameras = np.zeros_like(self.classes) if self.cameras is None else self.cameras
        pairs = np.stack([self.classes, cameras], axis=1)
        own, place = np.unique(pairs, axis=0, return_inverse=True)
        of_pair = np.bincount(place[self.gallery], minlength=len(own))
        of_identity = np.bincount(self.classes[self.gallery] + 1, minlength=len(self.identities) + 1)
        matches = of_identity[self.classes[self.query] + 1]
        if self.cameras is None:
            matches = matches - np.isin(self.query, self.gallery)
        else:
            matches = matches - of_pair[place[self.query]]
        found: npt.NDArray[np.int64] = np.unique(self.classes[self.query][matches > 0])
        return found[found >= 0]

    def can_be_scored(self) -> bool:
        """Whether scores on it mean anything: with one searchable identity, every hit is right."""
        return len(self.searchable()) >= 2

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
    `left_out`: what cannot be used and is in no split; `notes`: what else a reader of the figures should know.
    `undecodable`: the images that were in a split until they were decoded, name → sha256, and those of identities
    that had too few left then.
    """

    train: Split
    validation: Split
    test: Split
    sha256: str
    licence: str | None = None
    left_out: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    undecodable: Mapping[str, str] = field(default_factory=dict)

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def part(self, name: str) -> Split:
        """The test or validation split. Raises DataError for another name."""
        if name not in ("test", "validation"):
            raise DataError(f"split must be test or validation; found {name!r}")
        return self.test if name == "test" else self.validation


def digest(splits: Sequence[Split]) -> str:
    """Digest (sha256) of the names and contents of all images."""
    found = hashlib.sha256()
    for name, content in sorted(
        pair for split in splits for pair in zip(split.names, split.contents, strict=True)
    ):
        found.update(name.encode() + b"\0" + bytes.fromhex(content))
    return found.hexdigest()


def content_digest(path: ImageFile) -> str:
    """Digest (sha256) of a file; a shard's members have theirs. Raises DataError where it cannot be read."""
    if isinstance(path, Member):
        return path.sha256
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            raise DataError(f"{path} is no file" if path.exists() else f"{path} does not exist")
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
