"""The part of a data set on which several runs agree, whatever identities each of them kept for validation."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sfsc_training.data.dataset import Dataset, Split
from sfsc_training.errors import DataError

__all__ = ["shared_dataset"]


def shared_dataset(datasets: Sequence[Dataset]) -> Dataset:
    """The identities that every run trained on, those that none did, and the test split of all.

    Args:
        datasets: the same images as each run divides them.

    Raises:
        DataError: the test splits differ, or no identity is in every training split.
    """
    first, *others = datasets
    for other in others:
        if _roles(other.test) != _roles(first.test):
            raise DataError(
                "runs that are joined must have the same test split, or one may have been trained on what another "
                f"is tested on; found two: {first.test.protocol()}, and {other.test.protocol()}, of other images"
            )
    if not others:
        return first
    train, validation = (
        _in_common([data.train for data in datasets]),
        _in_common([data.validation for data in datasets]),
    )
    if not train.identities:
        raise DataError("runs that are joined must have training identities in common; found none")
    return replace(first, train=train, validation=validation)


def _roles(split: Split) -> tuple[list[str], list[str]]:
    """The content of the queries and of the gallery, whatever the images are named."""
    query, gallery = (sorted(split.contents[at] for at in rows) for rows in (split.query, split.gallery))
    return query, gallery


def _in_common(splits: Sequence[Split]) -> Split:
    """The images of the identities that are in every split."""
    common = set[str].intersection(*(set(split.identities) for split in splits))
    kept = [number for number, name in enumerate(splits[0].identities) if name in common]
    return splits[0].take_identities(np.array(kept, dtype=np.int64))
