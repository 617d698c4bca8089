"""Which widths may answer a request. Pure: facts and wish in, choice out; no clock, no queue, no I/O.

Rules:
- `width` is honoured exactly or refused; only a `deadline_ms` may go with it.
- Soft limits (`latency_ms`, `gflops`): of the widths that fit, the widest; if none does, the floor width.
- `min_quality`: the cheapest width whose mAP, averaged over the gallery's mix of widths, reaches it; if none
  does, the widest. It fixes the width: load does not take promised quality away.
- `deadline_ms` is hard: no width can meet it → refused on arrival.
- Nothing given: the service's own target, as a soft limit.
- No choice that is left to the service goes below its floor width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from sfsc_bundle.manifest import Manifest
from sfsc_service.errors import Problem

__all__ = [
    "Budget",
    "Choice",
    "Cost",
    "Reason",
    "WidthCatalog",
    "admit",
    "check_deadline",
    "choose",
    "expected_quality",
    "ideal_width",
]

Reason = Literal["requested", "budget", "load"]

Cost = Callable[[str, int], float]
"""(width, images in the batch) → predicted milliseconds of the batch."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a request asks for; every limit that is None is not set."""

    width: str | None = None
    latency_ms: float | None = None
    gflops: float | None = None
    deadline_ms: float | None = None
    min_quality: float | None = None


@dataclass(frozen=True, slots=True)
class WidthCatalog:
    """What a bundle and the operator's floor have to offer.

    `widths` ascend; `gflops` is for one image; `mean_ap[query width][gallery width]` is in points.
    """

    widths: tuple[str, ...]
    gflops: Mapping[str, float]
    mean_ap: Mapping[str, Mapping[str, float]]
    floor: str

    @classmethod
    def of(cls, manifest: Manifest, floor: str | None = None) -> "WidthCatalog":
        """Read a manifest. Raises Problem where the bundle has no such floor width."""
        widths = manifest.widths
        if floor is not None and floor not in widths:
            raise _unknown_width("floor_width", floor, widths)
        rows = manifest.quality.mean_ap
        return cls(
            widths=widths,
            gflops={submodel.width: 2e-9 * submodel.macs for submodel in manifest.submodels},
            mean_ap={row: dict(zip(widths, rows[i], strict=True)) for i, row in enumerate(widths)},
            floor=floor or widths[0],
        )

    @property
    def flexible(self) -> tuple[str, ...]:
        """The widths that the service may choose by itself, ascending."""
        return self.widths[self.widths.index(self.floor) :]


@dataclass(frozen=True, slots=True)
class Choice:
    """What scheduling may do with a request.

    `widths`: allowed, ascending, never empty. `target_ms`: from arrival to answer, what to aim at. `soft`:
    whether missing the target breaks a limit that counts for `budget_met`. `met`: whether every limit that
    does not depend on time is kept.
    """

    widths: tuple[str, ...]
    reason: Literal["requested", "budget"]
    target_ms: float
    soft: bool
    met: bool = True
    deadline_ms: float | None = None

    @property
    def limit(self) -> Literal["hard", "soft"]:
        """Whether an answer that comes too late is worth nothing, or only less."""
        return "soft" if self.deadline_ms is None else "hard"

    @property
    def limit_ms(self) -> float:
        """What decides whether an answer is in time, from arrival."""
        return self.target_ms if self.deadline_ms is None else self.deadline_ms

    def budget_met(self, elapsed_ms: float) -> bool:
        """Whether an answer after so long keeps every limit."""
        in_time = not self.soft or elapsed_ms <= self.target_ms
        return self.met and in_time and (self.deadline_ms is None or elapsed_ms <= self.deadline_ms)


def choose(
    budget: Budget, catalog: WidthCatalog, cost: Cost, slo_ms: float, mix: Mapping[str, int] | None = None
) -> Choice:
    """Turn a wish into the widths that may answer it.

    Args:
        cost: asked only for what a batch of one takes, to give limits without a time room to be kept.
        slo_ms: the service's own target.
        mix: the gallery's number of items per width; None or empty = all at the bundle's full width.

    Raises:
        Problem: unknown_width, contradictory_limits.
    """
    if budget.width is not None:
        return _explicit(budget, catalog, slo_ms)
    allowed, met = catalog.flexible, True
    if budget.gflops is not None:
        allowed = tuple(width for width in catalog.flexible if catalog.gflops[width] <= budget.gflops)
        if not allowed:
            allowed, met = (catalog.floor,), False
    if budget.min_quality is not None:
        allowed, met = _good_enough(budget, catalog, allowed, met, mix or {})
    timed = [limit for limit in (budget.latency_ms, budget.deadline_ms) if limit is not None]
    untimed_budget = not timed and (budget.gflops is not None or budget.min_quality is not None)
    target = min(timed, default=max(slo_ms, 2 * cost(allowed[-1], 1)) if untimed_budget else slo_ms)
    return Choice(allowed, "budget", target, not untimed_budget, met, budget.deadline_ms)


def ideal_width(choice: Choice, cost: Cost, spent_ms: float = 0.0) -> str:
    """The widest allowed width with which an idle server keeps the target; the narrowest if none does.

    Args:
        spent_ms: what the request has used of its target, plus what it will need after its batch.
    """
    for width in reversed(choice.widths):
        if spent_ms + cost(width, 1) <= choice.target_ms:
            return width
    return choice.widths[0]


def admit(choice: Choice, cost: Cost, wait_ms: float, spent_ms: float = 0.0, after_ms: float = 0.0) -> None:
    """Refuse a hard deadline that not even the cheapest allowed width can meet.

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


def check_deadline(choice: Choice, spent_ms: float) -> None:
    """Stop work on an admitted request whose hard deadline is over. Raises Problem: deadline_passed."""
    if choice.deadline_ms is not None and spent_ms > choice.deadline_ms:
        raise Problem(
            "deadline_passed",
            f"deadline_ms: {choice.deadline_ms:g} ms had passed before the image was decoded",
            "deadline_ms",
        )


def expected_quality(catalog: WidthCatalog, width: str, mix: Mapping[str, int]) -> float:
    """mAP in points of a query width, averaged over the gallery's items by their widths.

    Items at widths that the matrix does not have are left out; with none left, all count as full width.
    """
    row = catalog.mean_ap[width]
    known = {other: count for other, count in mix.items() if other in row and count > 0}
    total = sum(known.values())
    if not total:
        return row[catalog.widths[-1]]
    return sum(row[other] * count for other, count in known.items()) / total


def _explicit(budget: Budget, catalog: WidthCatalog, slo_ms: float) -> Choice:
    assert budget.width is not None
    if budget.width not in catalog.widths:
        raise _unknown_width("width", budget.width, catalog.widths)
    others = [name for name in ("latency_ms", "gflops", "min_quality") if getattr(budget, name) is not None]
    if others:
        raise Problem(
            "contradictory_limits",
            f"width: fixes the model, so it cannot go with {' and '.join(others)}; give one or the other",
            "width",
        )
    target = slo_ms if budget.deadline_ms is None else budget.deadline_ms
    return Choice((budget.width,), "requested", target, False, True, budget.deadline_ms)


def _good_enough(
    budget: Budget, catalog: WidthCatalog, allowed: tuple[str, ...], met: bool, mix: Mapping[str, int]
) -> tuple[tuple[str, ...], bool]:
    assert budget.min_quality is not None
    points = {width: expected_quality(catalog, width, mix) for width in catalog.flexible}
    reached = [width for width in catalog.flexible if points[width] >= budget.min_quality]
    if not reached and budget.gflops is None:
        return (catalog.widths[-1],), False
    if not met or not set(reached) & set(allowed):
        best = max(allowed, key=lambda width: points[width])
        raise Problem(
            "contradictory_limits",
            f"min_quality: {budget.min_quality:g} points of mAP cannot be had within gflops {budget.gflops:g}; "
            f"there width {best} reaches {points[best]:.4g} at {catalog.gflops[best]:.3g} GFLOP",
            "min_quality",
        )
    cheapest = min((width for width in reached if width in allowed), key=lambda width: catalog.gflops[width])
    return (cheapest,), True


def _unknown_width(parameter: str, found: str, widths: tuple[str, ...]) -> Problem:
    return Problem("unknown_width", f"{parameter}: must be one of {', '.join(widths)}, found {found}", parameter)
