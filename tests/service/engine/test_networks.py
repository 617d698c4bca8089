"""Networks of a bundle: when and how often they are measured."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_bundle.half import HALF_COSINE
from sfsc_bundle.runner import Acceleration, make_runner
from sfsc_service.engine.costs import CostTable, Measured
from sfsc_service.engine.networks import Networks, open_networks

WIDTHS = ("0.25", "0.5", "0.75", "1.0")


@pytest.fixture
def networks(tiny: Bundle) -> Networks:
    return open_networks(tiny.folder, None, "cpu", 1)


def sizes(networks: Networks) -> dict[str, list[int]]:
    return {width: list(known) for width, known in networks.costs.table().items()}


def test_a_new_network_has_been_measured_with_one_image(networks: Networks) -> None:
    assert sizes(networks) == {width: [1] for width in WIDTHS}


@pytest.mark.parametrize(("max_batch", "wanted"), [(1, [1]), (4, [1, 2, 4]), (5, [1, 2, 4])])
def test_warming_up_measures_every_size_up_to_the_largest_batch(
    networks: Networks, max_batch: int, wanted: list[int]
) -> None:
    networks.warm_up(max_batch, lambda: True)
    assert sizes(networks) == dict.fromkeys(WIDTHS, wanted)


def test_warming_up_stops_when_it_is_told_to(networks: Networks) -> None:
    answers = iter([True, True] + [False] * 100)
    networks.warm_up(4, lambda: next(answers))
    assert sizes(networks) == {"0.25": [1, 2], "0.5": [1, 2], "0.75": [1], "1.0": [1]}


def test_a_first_start_times_five_runs_and_a_later_one_one_run(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: Counter[str] = Counter()

    def counting(bundle: Bundle, width: str, **options: Any) -> Any:
        real = make_runner(bundle, width, **options)

        def run(images: np.ndarray) -> np.ndarray:
            runs[width] += 1
            return real(images)

        return run

    monkeypatch.setattr("sfsc_service.engine.networks.make_runner", counting)
    for timed in (5, 1):
        runs.clear()
        made = open_networks(tiny.folder, None, "cpu", 1, tmp_path)
        assert runs == dict.fromkeys(WIDTHS, 1 + timed)
        made.keep_costs()


def test_while_idle_unknown_sizes_come_first_and_then_what_was_not_seen_for_a_minute(networks: Networks) -> None:
    now = 100.0
    networks.costs = CostTable(WIDTHS, clock=lambda: now)
    found = []
    while (wanted := networks.next_measurement(max_batch=2)) is not None:
        found.append(wanted)
        networks.measure(*wanted, runs=1)
    assert found == [(width, images) for images in (1, 2) for width in WIDTHS]
    now = 160.0
    assert networks.next_measurement(max_batch=2) is None
    now = 160.5
    networks.costs.observe("0.25", 1, 1.0)
    assert networks.next_measurement(max_batch=2) == ("0.5", 1)


def test_half_precision_has_the_vectors_of_full_precision_and_costs_of_its_own(
    tiny: Bundle, tmp_path: Path
) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8))
    full = open_networks(tiny.folder, None, "cpu", 1, tmp_path)
    full.keep_costs()
    half = open_networks(tiny.folder, None, "cpu", 1, tmp_path, Acceleration(half=True))
    for width in WIDTHS:
        rows = [np.stack(each.run(width, images)) for each in (half, full)]
        assert (rows[0] * rows[1]).sum(axis=1).min() >= HALF_COSINE
    full.costs.load({width: {64: Measured(1.0, 1.0)} for width in WIDTHS})
    full.keep_costs()
    for acceleration in (None, Acceleration(half=True)):
        again = open_networks(tiny.folder, None, "cpu", 1, tmp_path, acceleration)
        assert (64 in again.costs.table()["1.0"]) == (acceleration is None)
