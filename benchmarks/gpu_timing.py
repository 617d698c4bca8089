"""How long a call takes, for the parts of gpu.py."""

import time
from collections.abc import Callable
from statistics import median

__all__ = ["timed"]


def timed(call: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call after a warm-up."""
    call()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return median(took)
