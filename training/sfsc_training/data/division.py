"""Which identities are trained on, which are kept apart for choices, and which for the test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from sfsc_training.config import DataSection

__all__ = ["Division", "Part", "assign", "divide"]

Identity = TypeVar("Identity")
Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Division:
    """Where the identities of an earlier training belong, whatever the data folder says now.

    `others`: where identities belong that it does not know; None: they are divided as in a new training.
    """

    parts: Mapping[str, Part]
    others: Part | None


def assign(
    given: Mapping[str, Part | None], section: DataSection, seed: int, earlier: Division | None
) -> dict[str, Part]:
    """The part of every identity.

    Args:
        given: identities in order, with the part that folder or list gives them; None: the seed decides.
        earlier: the division of an earlier training comes first.
    """
    known = {} if earlier is None else {name: earlier.parts[name] for name in given if name in earlier.parts}
    if earlier is not None and earlier.others is not None:
        known |= {name: part or earlier.others for name, part in given.items() if name not in known}
    random = np.random.default_rng(seed)
    left = [name for name in given if name not in known]
    rest = [name for name in left if given[name] != "test"]
    drawn: dict[str, Part] = {name: "test" for name in left if given[name] == "test"}
    undecided = [name for name in rest if given[name] is None]
    if undecided:
        _, test = divide(undecided, _held_out(len(undecided), section.test_share, section), random)
        drawn |= _all_in("test", test)
        rest = [name for name in rest if name not in drawn]
    if "validation" in given.values():
        drawn |= {name: "validation" if given[name] == "validation" else "train" for name in rest}
    else:
        count = _held_out(len(rest), section.validation_share, section)
        if section.held_out is not None and 3 * count > len(rest):
            count = 0  # so few identities are needed for the training
        _, validation = divide(rest, count, random)
        drawn |= _all_in("train", rest) | _all_in("validation", validation)
    return known | drawn


def divide(
    identities: Sequence[Identity], count: int, random: np.random.Generator
) -> tuple[list[Identity], list[Identity]]:
    """Divide identities at random into all but `count`, and `count` of them; both keep their order."""
    drawn = set(random.permutation(len(identities))[:count].tolist())
    kept = [path for number, path in enumerate(identities) if number not in drawn]
    return kept, [path for number, path in enumerate(identities) if number in drawn]


def _all_in(part: Part, names: Sequence[str]) -> dict[str, Part]:
    return dict.fromkeys(names, part)


def _held_out(identities: int, share: float, section: DataSection) -> int:
    wanted = round(share * identities)
    if section.held_out is None or share == 0:
        return wanted
    least, most = section.held_out
    return min(max(wanted, least), most)
