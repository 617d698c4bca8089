"""What a batch costs on this machine: milliseconds per (width, images), measured and then corrected.

Two corrections by what real batches take: one factor for the whole machine, which follows quickly, because what
else wants the cores (decoding, HTTP, neighbours) slows all widths down alike; and each size's own cost, which
follows slowly. The mean error of the predictions (to begin with: how far the p95s lie from their medians) is
the margin that a cautious estimate adds.

Thread-safe; reading never waits. Between measured batch sizes it interpolates; above the largest one, and for
widths measured at one size only, it takes the cost per image of the nearest measured size.

What looks too slow is not chosen, so its batches cannot correct it: widths that have not been seen for a while
are `stale`, and somebody has to measure them again.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import numpy as np

__all__ = ["BUCKETS", "CostTable", "Measured", "measure"]

BUCKETS = (1, 2, 4, 8, 16, 32, 64)

MACHINE_WEIGHT = 0.1
"""How much one batch moves the machine's factor; about twenty batches forget a changed load."""

SIZE_WEIGHT = 0.02
"""How much one batch moves its own size's cost."""

CLAMP = 4.0
"""No observation counts for more than this factor off the estimate: one swapped-out batch is no trend."""

MOST_DOUBT = 0.5
"""The largest error to begin with; a few runs disturbed by something else say little."""

SLOWEST = 16.0
"""The bound of the machine's factor, both ways."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of a batch, each over several runs."""

    median_ms: float
    p95_ms: float


class CostTable:
    """Costs of several widths; before the first measurement a width costs nothing that is known: 0 ms.

    Args:
        largest: images; estimates up to there are looked up, not computed.
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

    @property
    def widths(self) -> tuple[str, ...]:
        """The widths that it was made for."""
        return tuple(self._known)

    def estimate(self, width: str, images: int) -> float:
        """Expected milliseconds of a batch of so many images, now."""
        curve = self._curves[width]
        if images < len(curve):
            return curve[images] * self.slowdown
        return curve[-1] * images / (len(curve) - 1) * self.slowdown

    def cautious(self, width: str, images: int) -> float:
        """The estimate with the mean error of late predictions on top."""
        return self.estimate(width, images) * (1.0 + self.error)

    def measured(self, width: str, images: int, found: Measured) -> None:
        """Set what a batch of exactly so many images takes on an otherwise idle machine.

        Other sizes of the width change in proportion to what was known of this one.
        """
        with self._lock:
            known = self._known[width]
            factor = found.median_ms / known[images].median_ms if images in known else 1.0
            if not known:
                self._doubt([found])
            self._set(width, {size: _scaled(old, factor) for size, old in known.items()} | {images: found})
            self.slowdown = 1.0
            self._seen[width] = self._clock()

    def load(self, measured: Mapping[str, Mapping[int, Measured]]) -> None:
        """Take over what was measured earlier, of every width."""
        with self._lock:
            for width, cells in measured.items():
                self._set(width, dict(cells))
                self._doubt(list(cells.values()))
                self._seen[width] = self._clock()

    def observe(self, width: str, images: int, ms: float) -> float:
        """Correct by what a real batch took. Returns actual ÷ predicted; 1 where nothing was predicted."""
        with self._lock:
            self._seen[width] = self._clock()
            predicted = self.estimate(width, images)
            if predicted <= 0:
                self._set(width, {**self._known[width], images: Measured(ms, ms)})
                return 1.0
            ratio = min(max(ms / predicted, 1 / CLAMP), CLAMP)
            self.error += MACHINE_WEIGHT * (abs(ratio - 1) - self.error)
            self.slowdown *= 1 + MACHINE_WEIGHT * (ratio - 1)
            self.slowdown = min(max(self.slowdown, 1 / SLOWEST), SLOWEST)
            self._correct(width, images, 1 + SIZE_WEIGHT * (ratio - 1))
            return ms / predicted

    def stale(self, after_s: float) -> str | None:
        """A width that nothing has been learned of for so long, if there is one."""
        width = min(self._seen, key=lambda name: self._seen[name])
        return width if self._clock() - self._seen[width] > after_s else None

    def table(self) -> dict[str, dict[int, Measured]]:
        """A copy, without the machine's factor of this moment."""
        return {width: dict(sorted(known.items())) for width, known in self._known.items()}

    def _doubt(self, cells: Sequence[Measured]) -> None:
        """Begin with an error as large as the usual distance of a p95 from its median."""
        usual = median(cell.p95_ms / cell.median_ms - 1.0 for cell in cells) if cells else 0.0
        self.error = max(self.error, min(usual, MOST_DOUBT))

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
    """Time a call, after one unmeasured call that pays for what only the first one needs.

    Args:
        clock: seconds.
        budget_s: no further call is made after so long; at least one is measured.
        runs: no more calls than that are measured.
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
    """Milliseconds of 0, 1, … `largest` images: straight between known sizes, through zero beyond them."""
    sizes = [0, *sorted(known)]
    costs = [0.0, *(known[size] for size in sizes[1:])]
    if 0 < sizes[-1] < largest:
        costs.append(costs[-1] * largest / sizes[-1])
        sizes.append(largest)
    curve: list[float] = np.interp(np.arange(largest + 1), sizes, costs).tolist()
    return curve
