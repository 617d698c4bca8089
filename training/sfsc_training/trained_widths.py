"""Which widths a step trains: all, those of the sandwich rule, or the widest alone (docs/method.md §3.4)."""

from collections.abc import Sequence

import torch

from sfsc_training.config import OptimiserSection

__all__ = ["alone", "sandwich", "trained_at"]


def trained_at(
    step: int, section: OptimiserSection, trained: Sequence[int], generator: torch.Generator
) -> tuple[int, ...]:
    """The widths of one step, ascending.

    Args:
        trained: positions of the widths that the run trains, ascending.
    """
    return (trained[-1],) if alone(step, section) else sandwich(trained, section.sandwich, generator)


def alone(step: int, section: OptimiserSection) -> bool:
    """Whether a step trains the widest width alone: those of the first share of a run.

    SlimCLR (Zhao et al., IJCV 2024) and Scala (NeurIPS 2024) begin so, with half and a tenth of the steps.
    """
    return step < section.full_first * section.steps


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
