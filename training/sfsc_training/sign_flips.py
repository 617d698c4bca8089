"""Whether a difference over few identities is more than chance: Fisher's randomisation test of paired values."""

import numpy as np
import numpy.typing as npt

__all__ = ["probability_of_less"]

_ALL = 14  # values; of more, flips are drawn
_DRAWS = 10_000


def probability_of_less(differences: npt.NDArray[np.float64]) -> float:
    """How often a sum as low as that of the differences comes about where each might as well have the other sign.

    Every choice of signs counts for up to 14 values, 10,000 drawn ones (seed 0) for more. n values cannot give
    less than 2⁻ⁿ, whatever their size, and a difference of 0 says nothing (Fisher 1935, "The Design of
    Experiments", §21).

    >>> probability_of_less(np.array([-9.0, -1.0, -2.0, -3.0, -1.0]))
    0.03125
    >>> probability_of_less(np.array([-20.0, 0.0, 0.0, 0.0, 0.0]))
    0.5

    Args:
        differences: float64 [n], one for each identity.
    """
    count = len(differences)
    if count <= _ALL:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
    else:
        bits = np.random.default_rng(0).integers(0, 2, (_DRAWS, count))
    sums = (1 - 2 * bits) @ differences
    low = sums <= differences.sum() + 1e-9 * np.abs(differences).sum()
    return float(low.mean())
