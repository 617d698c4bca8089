"""Whether all images of a data set can be decoded: found out before the training starts."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np

from sfsc_training.config import DataSection
from sfsc_training.data.dataset import Dataset, Split, digest
from sfsc_training.data.findings import Finding
from sfsc_training.data.images import (
    Images,
    OnDemand,
    decode_each,
    fits,
    kept_images,
    load_all,
    others,
    unreadable,
)
from sfsc_training.data.listing import FEWEST_IMAGES
from sfsc_training.errors import DataError

__all__ = ["check_images"]


def check_images(
    dataset: Dataset,
    section: DataSection,
    advance: Callable[[], None] | None = None,
    *,
    threads: int = 2,
    readable: Mapping[str, str] | None = None,
) -> tuple[Dataset, Images]:
    """Decode every image once, before a training that would otherwise meet a damaged one at its end.

    Args:
        readable: name → sha256 of images that the same training could decode when it began: not tried again.

    Returns:
        The data set, and the images of its training split, uint8 [n, H, W, 3]. With data.skip_unreadable
        both lack the images that cannot be decoded, and the identities that have too few left.

    Raises:
        DataError: as `load_images`, of any split; or fewer than 2 identities are left to train on.
    """
    images: Images = OnDemand(dataset.train.paths, section, threads)
    damaged: dict[str, dict[int, DataError]] = {}
    for name, split in dataset.splits.items():
        if name == "train" and fits(split.paths, section):
            images, damaged[name] = load_all(split.paths, section, advance, threads)
        else:
            damaged[name] = _undecodable(split, section, advance, threads, readable or {})
    errors = [error for found in damaged.values() for error in found.values()]
    if not errors:
        return dataset, images
    if not section.skip_unreadable:
        raise unreadable(errors, sum(len(split.paths) for split in dataset.splits.values()))
    remaining = {name: _remaining(split, damaged[name]) for name, split in dataset.splits.items()}
    place = {name: number for number, name in enumerate(dataset.train.names)}
    kept = np.array([place[name] for name in remaining["train"].names], dtype=np.int64)
    return _without(dataset, remaining, damaged), kept_images(images, kept)


def _undecodable(
    split: Split,
    section: DataSection,
    advance: Callable[[], None] | None,
    threads: int,
    readable: Mapping[str, str],
) -> dict[int, DataError]:
    """What is wrong with the images of a split, by position, but for those known to be readable."""
    pairs = enumerate(zip(split.names, split.contents, strict=True))
    new = [place for place, (name, content) in pairs if readable.get(name) != content]
    failed = decode_each([split.paths[place] for place in new], section, None, advance, threads)
    if advance is not None:
        for _ in range(len(split.names) - len(new)):
            advance()
    return {new[place]: error for place, error in failed.items()}


def _remaining(split: Split, damaged: Collection[int]) -> Split:
    """The split without damaged images, and without the identities that they leave with too few."""
    kept = split.take(others(len(split.paths), damaged))
    enough = (kept.images_of() >= FEWEST_IMAGES) | (kept.images_of() == split.images_of())
    return kept.take_identities(np.flatnonzero(enough))


def _without(
    dataset: Dataset, remaining: Mapping[str, Split], damaged: Mapping[str, Mapping[int, DataError]]
) -> Dataset:
    if len(remaining["train"].identities) < 2:
        raise DataError("training needs at least 2 identities with images that can be read")
    splits = dataset.splits
    used = {name for split in remaining.values() for name in split.names}
    damaged_names = tuple(splits[part].names[place] for part, found in damaged.items() for place in found)
    why = next(str(error) for found in damaged.values() for error in found.values())
    few = {name for part in splits for name in set(splits[part].identities) - set(remaining[part].identities)}
    found = (
        Finding("images that cannot be read", damaged_names, why.partition("cannot be read: ")[2]),
        Finding(f"identities with fewer than {FEWEST_IMAGES} images that can be read", tuple(sorted(few))),
    )
    return replace(
        dataset,
        train=remaining["train"],
        validation=remaining["validation"],
        test=remaining["test"],
        sha256=digest(tuple(remaining.values())),
        left_out=(*dataset.left_out, *(finding for finding in found if finding.names)),
        undecodable={
            name: content
            for split in splits.values()
            for name, content in zip(split.names, split.contents, strict=True)
            if name not in used
        },
    )
