"""On a GPU every width costs the same half millisecond until batches are full: nothing is gained by a narrow one.

The costs are those that were measured on one H100 with the demo bundle; widths between were not, and lie between.
"""

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from arrivals import PATTERNS, arrivals
from sfsc_service.engine.batch_plan import ArrivalFlow, Capacity, Load, Work, plan_batch
from sfsc_service.engine.costs import BUCKETS, CostTable, Measured
from sfsc_service.engine.policy import Budget, WidthCatalog
from simulation import Request, Served, simulate

SIZES = (1, 32, 128)
NARROW_PER_S, FULL_PER_S = (1815, 55_900, 156_600), (1789, 44_100, 89_600)
"""Images a second in batches of these sizes at width 0.25 and at 1.0."""
ENDS = np.array(
    [
        [1000 * size / rate for size, rate in zip(SIZES, rates, strict=True)]
        for rates in (
            NARROW_PER_S,
            FULL_PER_S,
        )
    ]
)
BATCH_MS = {
    width: (1 - share) * ENDS[0] + share * ENDS[1]
    for width, share in (("0.25", 0.0), ("0.5", 1 / 3), ("0.75", 2 / 3), ("1.0", 1.0))
}
WIDTHS = tuple(BATCH_MS)
CATALOG = WidthCatalog(
    WIDTHS,
    gflops=dict.fromkeys(WIDTHS, 1.0),
    mean_ap={width: {"1.0": 80.0} for width in WIDTHS},
    mixed_gap=dict.fromkeys(WIDTHS, 0.0),
    floor="0.25",
)
CAPACITIES = (Capacity(1, 32, 50.0), Capacity(2, 32, 50.0), Capacity(2, 128, 50.0))


def costs(width: str, images: int) -> float:
    """Milliseconds of a batch."""
    return float(np.interp(images, SIZES, BATCH_MS[width]))


def noisy(width: str, images: int, draw: random.Random) -> float:
    return costs(width, images) * draw.lognormvariate(0.0, 0.15)


def per_s(capacity: Capacity, width: str) -> float:
    """What all workers do in full batches."""
    return 1000 * capacity.workers * capacity.max_batch / costs(width, capacity.max_batch)


def serve(
    capacity: Capacity, load: float, pattern: str, actual: Callable[[str, int], float], requests: int
) -> list[Served]:
    table = CostTable(WIDTHS, capacity.max_batch)
    for width in WIDTHS:
        for images in (size for size in BUCKETS if size <= capacity.max_batch):
            table.set_measured(width, images, Measured(costs(width, images), 1.05 * costs(width, images)))
    rate = load * per_s(capacity, "1.0")
    sent = [Request(at, Budget()) for at in arrivals(pattern, rate, requests / rate, seed=1)]
    return simulate(sent, CATALOG, table, capacity, actual, slo_ms=100.0, decode_ms=0.5)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("load", "requests"), [(0.05, 700), (0.3, 900), (0.9, 2000)])
@pytest.mark.parametrize("capacity", CAPACITIES, ids=lambda one: f"{one.workers} × {one.max_batch}")
def test_the_full_width_answers_until_batches_are_full(
    capacity: Capacity, load: float, requests: int, pattern: str
) -> None:
    draw = random.Random(5)
    answers = serve(capacity, load, pattern, lambda width, images: noisy(width, images, draw), requests)
    assert Counter(one.width for one in answers) == {"1.0": len(answers)}
    assert all(one.in_time for one in answers)


def test_beyond_full_batches_narrower_widths_help_and_everybody_is_in_time() -> None:
    answers = serve(CAPACITIES[0], 1.2, "bursty", costs, 6000)
    assert all(one.in_time for one in answers)
    widths = Counter(one.width for one in answers)
    assert widths["1.0"] < len(answers)
    narrow = [one for one in answers if one.width != "1.0"]
    assert np.mean([one.batch for one in narrow]) > 30, "only in full batches is a narrow width cheaper"


@pytest.mark.parametrize(("rate", "level"), [(100.0, 0), (4_000.0, 0), (40_000.0, 0), (150_000.0, 3)])
def test_a_flow_counts_in_the_batches_that_it_fills(rate: float, level: int) -> None:
    """One request waits; 4,000 a second would be twice what batches of one can do, and a tenth of what 32 can."""
    queue = [Work(WIDTHS[::-1], 0.1)]
    load = Load(flows=[ArrivalFlow(WIDTHS[::-1], rate, 0.1)])
    plan = plan_batch(queue, costs, 0.0, CAPACITIES[0], load)
    assert (plan.level, plan.width) == (level, WIDTHS[::-1][level])
