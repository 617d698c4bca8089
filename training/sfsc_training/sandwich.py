"""The sandwich rule: which widths a step trains (docs/method.md §3.4)."""

from collections.abc import Sequence

import torch

__all__ = ["sandwich"]


def sandwich(trained: Sequence[int], between: int | None, generator: torch.Generator) -> tuple[int, ...]:
    """The widths of one step, ascending: the narrowest, the widest and some drawn from those between.

    Yu & Huang 2019, "Universally Slimmable Networks", §3.1.

    Args:
        trained: positions of the widths that the run trains, ascending.
        between: how many are drawn; None, or at least as many as there are: every width, without a draw.
    """
    middle = trained[1:-1]
    if between is None or between >= len(middle):
        return tuple(trained)
    drawn = torch.randperm(len(middle), generator=generator)[:between].tolist()
    return (trained[0], *(middle[place] for place in sorted(drawn)), trained[-1])
