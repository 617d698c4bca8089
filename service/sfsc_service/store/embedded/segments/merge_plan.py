"""Which rows are written together into a new segment next; pure.

Neighbours of about the same size are merged, so that a row is written once per factor of FANOUT in the size of the
gallery, and there are few segments at any size.
"""

import math
from collections.abc import Sequence
from itertools import groupby

__all__ = ["FANOUT", "Size", "next_merge"]

FANOUT = 4
_DEAD_SHARE = 0.2
_FEW_DEAD = 1_024

Size = tuple[int, int]
"""Rows of a segment, and how many of them are live."""


def next_merge(sizes: Sequence[Size], smallest: int) -> tuple[int, int] | None:
    """The segments `first` .. `last` - 1 to be merged; None where all is well.

    A segment with many dead rows is written anew by itself. `smallest`: the usual size of new segments.
    """
    for number, (rows, live) in enumerate(sizes):
        if rows - live > max(_FEW_DEAD, _DEAD_SHARE * rows):
            return number, number + 1
    tiers = [_tier(live, smallest) for _, live in sizes]
    for tier in sorted(set(tiers)):
        for small, run in groupby(range(len(tiers)), [number <= tier for number in tiers].__getitem__):
            numbers = list(run)
            if small and sum(tiers[number] == tier for number in numbers) >= FANOUT:
                return numbers[0], numbers[-1] + 1
    return None


def _tier(live: int, smallest: int) -> int:
    return max(0, math.floor(math.log(max(live, 1) / smallest, FANOUT)))
