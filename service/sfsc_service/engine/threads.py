"""Thread budgets: how `SFSC_THREADS` is divided among workers, and the threads inside each of them."""

import math
from typing import assert_never

from sfsc_bundle.runner import Device

__all__ = ["split_threads"]


def split_threads(threads: int, device: Device) -> tuple[int, int]:
    """Split a thread budget into (workers, threads inside each worker's run).

    More workers use the cores better than more threads inside one run, yet a single request should also profit
    from several cores: about the square root for each. A GPU gets two workers, so that one stacks and copies its
    batch while the other computes.

    >>> split_threads(1, "cpu"), split_threads(2, "cpu"), split_threads(4, "cpu"), split_threads(16, "cpu")
    ((1, 1), (2, 1), (2, 2), (4, 4))
    """
    match device:
        case "cuda":
            return 2, 1
        case "cpu":
            workers = math.isqrt(max(1, threads) - 1) + 1  # the square root, rounded up
            return workers, max(1, threads // workers)
        case _:
            assert_never(device)
