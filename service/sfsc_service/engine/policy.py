"""Which widths may answer a request. Pure: budget and catalog in, choice out; no clock, no queue, no I/O.

Rules:
- `width` is honoured exactly or refused; only a `deadline_ms` may be combined with it.
- Soft limits (`latency_ms`, `gflops`): the widest of the widths that fit; the floor width if none fits.
- `min_quality`: the cheapest width whose mAP, predicted for the gallery's mix of widths, reaches it; the widest
  if none does. It fixes the width: load never takes promised quality away.
- `deadline_ms` is hard: a request that no width can answer in time is refused on arrival.
- Without a budget, the service's own latency target is a soft limit.
- Where the service chooses, it never goes below its floor width.

A new kind of budget is one field of `Budget` and one rule in `choose_widths`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from statistics import fmean
from typing import Literal

from sfsc_bundle.manifest import Manifest, Quality
from sfsc_service.errors import Problem

__all__ = [
    "BatchCost",
    "Budget",
    "Choice",
    "Reason",
    "WidthCatalog",
    "check_deadline_not_passed",
    "check_deadline_reachable",
    "choose_widths",
    "evenness",
    "expected_quality",
    "ideal_width",
]

Reason = Literal["requested", "budget", "load"]

BatchCost = Callable[[str, int], float]
"""(width, images in the batch) → predicted milliseconds of the batch."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a request; None = not set."""

    width: str | None = None
    latency_ms: float | None = None
    gflops: float | None = None
    deadline_ms: float | None = None
    min_quality: float | None = None


LIMITS = tuple(field.name for field in fields(Budget) if field.name != "width")
"""Every limit that a budget may set beside the width itself."""


@dataclass(frozen=True, slots=True)
class WidthCatalog:
    """The widths of a bundle with their cost and quality, and the operator's floor.

    A width is a name, of which only the place in the order counts. `widths` ascend; `gflops` is for one image;
    `mean_ap[query width][gallery width]` is in points (0–100); `mixed_gap[query width]` is what is added to the
    mean of that row, in points, in a gallery of all widths in equal parts.
    """

    widths: tuple[str, ...]
    gflops: Mapping[str, float]
    mean_ap: Mapping[str, Mapping[str, float]]
    mixed_gap: Mapping[str, float]
    floor: str

    @classmethod
    def of(cls, manifest: Manifest, floor: str | None = None) -> "WidthCatalog":
        """Read a manifest. Raises Problem (unknown_width) if the bundle has no such floor width."""
        widths = manifest.widths
        if floor is not None and floor not in widths:
            raise _unknown_width("floor_width", floor, widths)
        gflops = {submodel.name: 2e-9 * submodel.macs for submodel in manifest.submodels}
        return cls(widths, gflops, {}, {}, floor or widths[0]).with_quality(manifest.quality)

    def with_quality(self, quality: Quality) -> "WidthCatalog":
        """The same widths with other figures."""
        rows = dict(zip(quality.widths, quality.mean_ap, strict=True))
        mixed = zip(quality.widths, quality.mixed.mean_ap, strict=True)
        return replace(
            self,
            mean_ap={width: dict(zip(quality.widths, row, strict=True)) for width, row in rows.items()},
            mixed_gap={width: points - fmean(rows[width]) for width, points in mixed},
        )

    @property
    def flexible(self) -> tuple[str, ...]:
        """The widths that the service may choose by itself, ascending."""
        return self.widths[self.widths.index(self.floor) :]


@dataclass(frozen=True, slots=True)
class Choice:
    """The widths that may answer a request, and the times that it is held to.

    Attributes:
        widths: ascending, never empty.
        target_ms: the latency to aim at, from arrival to answer.
        soft: whether an answer later than `target_ms` breaks the budget.
        met: whether every limit that does not depend on time is kept.
    """

    widths: tuple[str, ...]
    reason: Literal["requested", "budget"]
    target_ms: float
    soft: bool
    met: bool = True
    deadline_ms: float | None = None

    @property
    def limit(self) -> Literal["hard", "soft"]:
        """Hard: an answer after `limit_ms` is worthless. Soft: it is only worth less."""
        return "soft" if self.deadline_ms is None else "hard"

    @property
    def limit_ms(self) -> float:
        """The latency up to which an answer is in time."""
        return self.target_ms if self.deadline_ms is None else self.deadline_ms

    def budget_met(self, elapsed_ms: float) -> bool:
        """Whether an answer with this latency keeps every limit."""
        in_time = not self.soft or elapsed_ms <= self.target_ms
        return self.met and in_time and (self.deadline_ms is None or elapsed_ms <= self.deadline_ms)


def choose_widths(
    budget: Budget, catalog: WidthCatalog, cost: BatchCost, slo_ms: float, mix: Mapping[str, int] | None = None
) -> Choice:
    """Turn a budget into the widths that may answer it.

    Args:
        cost: predicted milliseconds. Only the cost of one image is asked for, so that a budget without a time
            limit gets enough time for the width that it allows.
        slo_ms: the service's own latency target.
        mix: the gallery's number of items per width; None or empty = all at the bundle's full width.

    Raises:
        Problem: unknown_width, contradictory_limits.
    """
    given = [name for name in LIMITS if getattr(budget, name) is not None]
    if budget.width is not None:
        return _explicit(budget, budget.width, given, catalog, slo_ms)
    allowed, met = catalog.flexible, True
    if budget.gflops is not None:
        allowed = tuple(width for width in catalog.flexible if catalog.gflops[width] <= budget.gflops)
        if not allowed:
            allowed, met = (catalog.floor,), False
    if budget.min_quality is not None:
        allowed, met = _good_enough(budget.min_quality, budget.gflops, catalog, allowed, met, mix or {})
    timed = [limit for limit in (budget.latency_ms, budget.deadline_ms) if limit is not None]
    untimed_budget = bool(given) and not timed
    target = min(timed, default=max(slo_ms, 2 * cost(allowed[-1], 1)) if untimed_budget else slo_ms)
    return Choice(allowed, "budget", target, not untimed_budget, met, budget.deadline_ms)


def ideal_width(choice: Choice, cost: BatchCost, spent_ms: float = 0.0) -> str:
    """The widest allowed width with which an idle server keeps the target; the narrowest if none does.

    Args:
        spent_ms: the part of the target that is used up, plus what the request needs after its batch.
    """
    for width in reversed(choice.widths):
        if spent_ms + cost(width, 1) <= choice.target_ms:
            return width
    return choice.widths[0]


def check_deadline_reachable(
    choice: Choice, cost: BatchCost, wait_ms: float, spent_ms: float = 0.0, after_ms: float = 0.0
) -> None:
    """Refuse a hard deadline that not even the narrowest allowed width can meet.

    Args:
        wait_ms: predicted time in the queue.
        spent_ms: since the request arrived.
        after_ms: predicted for what follows the batch.

    Raises:
        Problem: deadline_unreachable.
    """
    if choice.deadline_ms is None:
        return
    needed = spent_ms + wait_ms + cost(choice.widths[0], 1) + after_ms
    if needed > choice.deadline_ms:
        raise Problem(
            "deadline_unreachable",
            f"deadline_ms: {choice.deadline_ms:g} ms cannot be met, the answer is predicted to take "
            f"{needed:.3g} ms at width {choice.widths[0]}",
            "deadline_ms",
            wait_ms / 1000,
        )


def check_deadline_not_passed(choice: Choice, spent_ms: float) -> None:
    """Stop work on a request whose hard deadline passed while it was decoded. Raises Problem: deadline_passed."""
    if choice.deadline_ms is not None and spent_ms > choice.deadline_ms:
        raise Problem(
            "deadline_passed",
            f"deadline_ms: {choice.deadline_ms:g} ms had passed when the image was decoded",
            "deadline_ms",
        )


def expected_quality(catalog: WidthCatalog, width: str, mix: Mapping[str, int]) -> float:
    """mAP in points that a query width is predicted to reach in a gallery with `mix[width]` items of each width.

    Σ_j p_j M[q][j] + gap[q] · h(p), where p_j are the shares of the items and h is their `evenness`: exact for a
    gallery of one width and for one of all widths in equal parts, which were measured, and in between for others.
    Items at widths that the matrix does not have are left out; if none is left, all count as full width.
    """
    row = catalog.mean_ap[width]
    known = {other: count for other, count in mix.items() if other in row and count > 0}
    total = sum(known.values())
    if not total:
        return row[catalog.widths[-1]]
    mean = sum(row[other] * count for other, count in known.items()) / total
    return mean + catalog.mixed_gap[width] * evenness((count / total for count in known.values()), len(row))


def evenness(shares: Iterable[float], widths: int) -> float:
    """(1 − Σ p²) / (1 − 1/m): 0 where one of m widths has all items, 1 where each has 1/m; 0 for a single width.

    It is the probability that two items differ in width, divided by the largest that it can be.
    """
    return (1 - sum(share**2 for share in shares)) / (1 - 1 / widths) if widths > 1 else 0.0


def _explicit(budget: Budget, width: str, given: list[str], catalog: WidthCatalog, slo_ms: float) -> Choice:
    if width not in catalog.widths:
        raise _unknown_width("width", width, catalog.widths)
    if others := [name for name in given if name != "deadline_ms"]:
        raise Problem(
            "contradictory_limits",
            f"width: fixes the model, so it cannot be combined with {' and '.join(others)}; give one or the other",
            "width",
        )
    target = slo_ms if budget.deadline_ms is None else budget.deadline_ms
    return Choice((width,), "requested", target, False, True, budget.deadline_ms)


def _good_enough(
    min_quality: float,
    gflops: float | None,
    catalog: WidthCatalog,
    allowed: tuple[str, ...],
    met: bool,
    mix: Mapping[str, int],
) -> tuple[tuple[str, ...], bool]:
    """The one width that `min_quality` leaves of those allowed so far, and whether it reaches it."""
    points = {width: expected_quality(catalog, width, mix) for width in catalog.flexible}
    reached = [width for width in catalog.flexible if points[width] >= min_quality]
    if not reached and gflops is None:
        return (catalog.widths[-1],), False
    if not met or not set(reached) & set(allowed):
        best = max(allowed, key=lambda width: points[width])
        raise Problem(
            "contradictory_limits",
            f"min_quality: {min_quality:g} points of mAP cannot be reached within gflops {gflops:g}; "
            f"there width {best} reaches {points[best]:.4g} at {catalog.gflops[best]:.3g} GFLOP",
            "min_quality",
        )
    cheapest = min((width for width in reached if width in allowed), key=lambda width: catalog.gflops[width])
    return (cheapest,), True


def _unknown_width(parameter: str, found: str, widths: tuple[str, ...]) -> Problem:
    return Problem("unknown_width", f"{parameter}: must be one of {', '.join(widths)}, found {found}", parameter)
