"""What a batch costs on this machine: milliseconds per (width, images), measured and then corrected.

Thread-safe; `estimate` never waits. Between measured batch sizes it interpolates; above the largest one, and
for widths measured at one size only, it takes the cost per image of the nearest measured size.
"""

import bisect
import threading
from collections.abc import Callable, Sequence
from statistics import median

__all__ = ["BUCKETS", "CostTable", "measure"]

BUCKETS = (1, 2, 4, 8, 16, 32, 64)

WEIGHT = 0.1
"""How much one observation moves an estimate; about twenty batches forget a changed machine."""

CLAMP = 4.0
"""No observation counts for more than this factor off the estimate: one swapped-out batch is no trend."""


class CostTable:
    """Costs of several widths; before the first measurement a width costs nothing that is known: 0 ms."""

    def __init__(self, widths: Sequence[str]) -> None:
        self._known: dict[str, dict[int, float]] = {width: {} for width in widths}
        self._lock = threading.Lock()

    @property
    def widths(self) -> tuple[str, ...]:
        """The widths that it was made for."""
        return tuple(self._known)

    def estimate(self, width: str, images: int) -> float:
        """Predicted milliseconds of a batch of so many images."""
        known = self._known[width]
        if not known:
            return 0.0
        sizes = sorted(known)
        at = bisect.bisect_left(sizes, images)
        if at == len(sizes):
            return known[sizes[-1]] * images / sizes[-1]
        upper = sizes[at]
        if upper == images or at == 0:
            return known[upper] * images / upper
        lower = sizes[at - 1]
        share = (images - lower) / (upper - lower)
        return known[lower] + share * (known[upper] - known[lower])

    def measured(self, width: str, images: int, ms: float) -> None:
        """Set what a batch of exactly so many images takes."""
        with self._lock:
            self._known[width] = {**self._known[width], images: ms}

    def observe(self, width: str, images: int, ms: float) -> None:
        """Correct the neighbouring sizes by what a real batch took."""
        with self._lock:
            known = self._known[width]
            predicted = self.estimate(width, images)
            if predicted <= 0:
                self._known[width] = {**known, images: ms}
                return
            ratio = min(max(ms / predicted, 1 / CLAMP), CLAMP)
            factor = 1 + WEIGHT * (ratio - 1)
            sizes = sorted(known)
            at = bisect.bisect_left(sizes, images)
            near = sizes[max(0, at - 1) : at + 1] if images not in known else [images]
            self._known[width] = {size: ms * factor if size in near else ms for size, ms in known.items()}

    def table(self) -> dict[str, dict[int, float]]:
        """A copy: width → images → milliseconds."""
        return {width: dict(sorted(known.items())) for width, known in self._known.items()}


def measure(run: Callable[[], object], clock: Callable[[], float], budget_s: float) -> float:
    """Median milliseconds of a call, after one unmeasured call that pays for what only the first one needs.

    Args:
        clock: seconds.
        budget_s: no further call is made after so long; at least one is measured.
    """
    run()
    taken: list[float] = []
    start = clock()
    while len(taken) < 5 and (not taken or clock() - start < budget_s):
        before = clock()
        run()
        taken.append(1000 * (clock() - before))
    return median(taken)
