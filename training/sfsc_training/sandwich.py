"""Which widths one step trains."""

from collections.abc import Sequence

import torch

__all__ = ["sandwich"]


def sandwich(trained: Sequence[int], between: int | None, generator: torch.Generator) -> tuple[int, ...]:
    """The widths of one step, ascending (Yu & Huang 2019, §3.1): the narrowest, the widest, some drawn between.

    Args:
        trained: positions of the widths that the run trains, ascending.
        between: how many are drawn; None, or as many as there are: all widths, and nothing is drawn.
    """
    middle = trained[1:-1]
    if between is None or between >= len(middle):
        return tuple(trained)
    drawn = torch.randperm(len(middle), generator=generator)[:between].tolist()
    return (trained[0], *(middle[place] for place in sorted(drawn)), trained[-1])
