"""What a batch costs on this machine: milliseconds per (width, images), measured and then corrected.

Every real batch corrects two things. One slowdown factor for the whole machine adapts quickly, because whatever
else uses the cores (decoding, HTTP, other processes) slows all widths down alike. The cost of the batch's own size
adapts slowly. The mean error of the predictions (initially: how far the p95s lie from their medians) is the margin
that a cautious estimate adds.

Thread-safe; reading never waits. Between measured batch sizes it interpolates; above the largest one, and for
widths measured at one size only, it takes the cost per image of the nearest measured size.

A width that looks too slow is never chosen, so no batch corrects its cost: a width that has not been seen for a
while is `stale` and has to be measured again.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Annotated

import numpy as np
from pydantic import Field

__all__ = ["BUCKETS", "CostTable", "Measured", "measure"]

BUCKETS = (1, 2, 4, 8, 16, 32, 64)

SLOWDOWN_SMOOTHING = 0.1
"""The weight of one batch in the machine's slowdown, which so follows a changed load within about 20 batches."""

SIZE_SMOOTHING = 0.02
"""The weight of one batch in the cost of its own size."""

MAX_RATIO = 4.0
"""An observation counts as at most this factor off the estimate: one batch that was swapped out is no trend."""

MAX_INITIAL_ERROR = 0.5
"""The largest initial error: a few runs disturbed by something else say little."""

MAX_SLOWDOWN = 16.0
"""The bound of the machine's slowdown; its reciprocal bounds a speed-up."""


Milliseconds = Annotated[float, Field(gt=0, lt=1e12, allow_inf_nan=False)]
"""Checked where costs are read from a file."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a batch of one size takes, in milliseconds over several runs."""

    median_ms: Milliseconds
    p95_ms: Milliseconds


class CostTable:
    """Costs of several widths; a width that was never measured is estimated at 0 ms.

    Args:
        largest: batch size up to which estimates are looked up, not computed.

    Attributes:
        slowdown: how long batches take now, in multiples of an idle machine's.
        error: the mean relative error of late predictions.
    """

    def __init__(
        self, widths: Sequence[str], largest: int = BUCKETS[-1], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._known: dict[str, dict[int, Measured]] = {width: {} for width in widths}
        self._curves = {width: [0.0] * (largest + 1) for width in widths}
        self._seen = dict.fromkeys(widths, -math.inf)
        self._clock = clock
        self._lock = threading.Lock()
        self.slowdown = 1.0
        self.error = 0.0

    def estimate(self, width: str, images: int) -> float:
        """Expected milliseconds of a batch of so many images, now."""
        curve = self._curves[width]
        if images < len(curve):
            return curve[images] * self.slowdown
        return curve[-1] * images / (len(curve) - 1) * self.slowdown

    def cautious(self, width: str, images: int) -> float:
        """The estimate plus the mean error of recent predictions."""
        return self.estimate(width, images) * (1.0 + self.error)

    def set_measured(self, width: str, images: int, found: Measured) -> None:
        """Set what a batch of exactly so many images takes on an otherwise idle machine.

        If the size was known, the width's other sizes change in the same proportion.
        """
        with self._lock:
            known = self._known[width]
            factor = found.median_ms / known[images].median_ms if images in known else 1.0
            if not known:
                self._raise_error([found])
            self._set(width, {size: _scaled(old, factor) for size, old in known.items()} | {images: found})
            self.slowdown = 1.0
            self._seen[width] = self._clock()

    def load(self, measured: Mapping[str, Mapping[int, Measured]]) -> None:
        """Replace the costs of these widths by what was measured earlier."""
        with self._lock:
            for width, cells in measured.items():
                self._set(width, dict(cells))
                self._raise_error(list(cells.values()))
                self._seen[width] = self._clock()

    def observe(self, width: str, images: int, ms: float) -> float:
        """Correct by what a real batch took. Returns actual ÷ predicted; 1 if nothing was predicted."""
        with self._lock:
            self._seen[width] = self._clock()
            predicted = self.estimate(width, images)
            if predicted <= 0:
                self._set(width, {**self._known[width], images: Measured(ms, ms)})
                return 1.0
            ratio = min(max(ms / predicted, 1 / MAX_RATIO), MAX_RATIO)
            self.error += SLOWDOWN_SMOOTHING * (abs(ratio - 1) - self.error)
            self.slowdown *= 1 + SLOWDOWN_SMOOTHING * (ratio - 1)
            self.slowdown = min(max(self.slowdown, 1 / MAX_SLOWDOWN), MAX_SLOWDOWN)
            self._correct(width, images, 1 + SIZE_SMOOTHING * (ratio - 1))
            return ms / predicted

    def stale(self, after_s: float) -> str | None:
        """The width that was not measured or observed for longest, if that is more than so long ago."""
        width = min(self._seen, key=lambda name: self._seen[name])
        return width if self._clock() - self._seen[width] > after_s else None

    def table(self) -> dict[str, dict[int, Measured]]:
        """A copy of the costs by width and batch size, without the present slowdown."""
        return {width: dict(sorted(known.items())) for width, known in self._known.items()}

    def _raise_error(self, cells: Sequence[Measured]) -> None:
        """Raise the error to the usual distance of a p95 from its median."""
        usual = median(cell.p95_ms / cell.median_ms - 1.0 for cell in cells) if cells else 0.0
        self.error = max(self.error, min(usual, MAX_INITIAL_ERROR))

    def _correct(self, width: str, images: int, factor: float) -> None:
        known = self._known[width]
        below = max((size for size in known if size <= images), default=None)
        above = min((size for size in known if size >= images), default=None)
        near = {below, above}
        self._set(width, {size: _scaled(old, factor) if size in near else old for size, old in known.items()})

    def _set(self, width: str, known: dict[int, Measured]) -> None:
        self._known[width] = known
        self._curves[width] = _curve(
            {size: cell.median_ms for size, cell in known.items()}, len(self._curves[width]) - 1
        )


def measure(run: Callable[[], object], clock: Callable[[], float], budget_s: float, runs: int = 5) -> Measured:
    """Time a call, after an unmeasured one that bears the cost of a first call.

    Args:
        clock: seconds.
        budget_s: no further call is started after so long; at least one is measured.
        runs: the largest number of measured calls.
    """
    run()
    taken: list[float] = []
    start = clock()
    while len(taken) < runs and (not taken or clock() - start < budget_s):
        before = clock()
        run()
        taken.append(1000 * (clock() - before))
    return Measured(median(taken), quantiles(taken, n=20, method="inclusive")[-1] if len(taken) > 1 else taken[0])


def _scaled(cell: Measured, factor: float) -> Measured:
    return Measured(cell.median_ms * factor, cell.p95_ms * factor)


def _curve(known: Mapping[int, float], largest: int) -> list[float]:
    """Milliseconds of 0, 1, … `largest` images: linear between known sizes, proportional beyond the last one."""
    sizes = [0, *sorted(known)]
    costs = [0.0, *(known[size] for size in sizes[1:])]
    if 0 < sizes[-1] < largest:
        costs.append(costs[-1] * largest / sizes[-1])
        sizes.append(largest)
    curve: list[float] = np.interp(np.arange(largest + 1), sizes, costs).tolist()
    return curve
