"""When requests arrive: Poisson, on and off, and a ramp. Times in seconds, ascending, a function of the seed."""

import math
import random
from collections.abc import Callable

__all__ = ["PATTERNS", "arrivals"]

PHASE_S = 0.5
"""Of the on/off pattern: so long at twice the mean rate, so long nothing."""


def arrivals(pattern: str, rate: float, seconds: float, seed: int) -> list[float]:
    """Times of a pattern of PATTERNS with `rate` arrivals a second on average.

    A Poisson process of unit rate, seen through the inverse of the pattern's integrated rate.
    """
    draw = random.Random(seed)
    when = PATTERNS[pattern]
    times: list[float] = []
    mass = 0.0
    while (mass := mass + draw.expovariate(1.0)) < rate * seconds:
        times.append(when(mass / rate, seconds))
    return times


def _steady(mean_s: float, _seconds: float) -> float:
    return mean_s


def _on_off(mean_s: float, _seconds: float) -> float:
    """`mean_s`: how long the mean rate would have taken for as many arrivals."""
    cycles, rest = divmod(mean_s, 2 * PHASE_S)
    return cycles * 2 * PHASE_S + rest / 2


def _ramp(mean_s: float, seconds: float) -> float:
    """From nothing to twice the mean rate: t² / seconds = mean_s."""
    return math.sqrt(mean_s * seconds)


PATTERNS: dict[str, Callable[[float, float], float]] = {"poisson": _steady, "bursty": _on_off, "ramp": _ramp}
