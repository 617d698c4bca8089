"""What the readers of published sets share: origin and counts of a set, and how its images become splits."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfsc_training.config import DataSection
from sfsc_training.data.dataset import Dataset, Split, content_digest, digest
from sfsc_training.data.division import divide
from sfsc_training.errors import DataError

__all__ = ["Parts", "PublishedImage", "Source", "make_dataset"]

Counts = tuple[int, int]  # images, identities


@dataclass(frozen=True, slots=True)
class PublishedImage:
    """One image of a published set; `identity` is None for junk images, which no metric counts."""

    path: Path
    identity: str | None
    camera: int | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """The official parts; if `query` is None, every gallery image queries all others."""

    train: Sequence[PublishedImage]
    gallery: Sequence[PublishedImage]
    query: Sequence[PublishedImage] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Origin of a set. `folder`: what its archive unpacks to; `counts`: the published counts of each part."""

    name: str
    folder: str
    url: str
    licence: str
    counts: Mapping[str, tuple[Counts, ...]]

    def root(self, given: Path, needed: Sequence[str]) -> Path:
        """The folder of the set: `given` or one in it. Raises DataError, which names what is missing."""
        root = given / self.folder if (given / self.folder).is_dir() else given
        missing = [name for name in needed if not (root / name).exists()]
        if missing:
            raise DataError(
                f"{root} lacks {', '.join(missing)}; {self.name} is read as {self.folder} unpacks, from {self.url}"
            )
        return root

    def check(self, part: str, images: Sequence[PublishedImage]) -> None:
        """Raises DataError where the counts of a part are not the published ones."""
        found = (len(images), len({p.identity for p in images if p.identity is not None}))
        known = self.counts.get(part, ())
        if known and found not in known:
            wanted = " or ".join(f"{count} of {identities}" for count, identities in known)
            raise DataError(
                f"{self.name}: {part} has {found[0]} images of {found[1]} identities; published: {wanted}; "
                "complete the folder or set data.check_counts = false"
            )


def make_dataset(root: Path, source: Source, parts: Parts, section: DataSection, seed: int) -> Dataset:
    """Check the parts, keep some training identities apart for validation, and number the identities.

    Raises:
        DataError: a listed image is missing or listed twice, counts differ from the published ones, or training
            and test share an identity.
    """
    named = {"train": parts.train, "gallery": parts.gallery, "query": parts.query or ()}
    for part, images in named.items():
        _exist(images, source, part)
        if section.check_counts:
            source.check(part, images)
    identities = sorted({p.identity for p in parts.train if p.identity is not None})
    kept, aside = divide(
        identities, round(section.validation_share * len(identities)), np.random.default_rng(seed)
    )
    train, validation = (_split(root, _of(parts.train, names), None) for names in (kept, aside))
    test = _split(root, parts.gallery, parts.query)
    shared = {p.identity for p in parts.train} & {p.identity for p in (*parts.gallery, *(parts.query or ()))} - {
        None
    }
    if shared:
        raise DataError(
            f"{source.name}: train and test must not share identities, both have {min(map(str, shared))}"
        )
    if len(train.identities) < 2:
        raise DataError(f"{root}: training needs at least 2 identities; found {len(train.identities)}")
    splits = (train, validation, test)
    return Dataset(*splits, digest(splits), source.licence)


def _of(images: Iterable[PublishedImage], identities: Iterable[str]) -> list[PublishedImage]:
    wanted = set(identities)
    return [image for image in images if image.identity in wanted]


def _split(root: Path, gallery: Sequence[PublishedImage], query: Sequence[PublishedImage] | None) -> Split:
    images = [*(query or ()), *gallery]
    names = sorted({p.identity for p in images if p.identity is not None})
    number = {name: place for place, name in enumerate(names)}
    everything = np.arange(len(images), dtype=np.int64)
    first = len(query) if query is not None else 0
    return Split(
        tuple(p.path for p in images),
        tuple(p.path.relative_to(root).as_posix() for p in images),
        tuple(content_digest(p.path) for p in images),
        np.array([-1 if p.identity is None else number[p.identity] for p in images], dtype=np.int64),
        tuple(names),
        _cameras(images),
        everything if query is None else everything[:first],
        everything[first:],
    )


def _cameras(images: Sequence[PublishedImage]) -> npt.NDArray[np.int64] | None:
    cameras = [image.camera for image in images if image.camera is not None]
    return np.array(cameras, dtype=np.int64) if images and len(cameras) == len(images) else None


def _exist(images: Sequence[PublishedImage], source: Source, part: str) -> None:
    missing = [image.path for image in images if not image.path.is_file()]
    if missing:
        raise DataError(f"{source.name}: {len(missing)} {part} images are missing; the first is {missing[0]}")
    twice = [path for path, count in Counter(image.path for image in images).items() if count > 1]
    if twice:
        raise DataError(f"{source.name}: {part} lists {twice[0]} more than once")
