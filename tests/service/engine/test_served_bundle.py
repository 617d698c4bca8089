"""The plan of a batch: for one bundle only, and the time that planning takes is remembered."""

from types import SimpleNamespace

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.engine.batch_plan import Capacity, Work
from sfsc_service.engine.networks import open_networks
from sfsc_service.engine.scheduler import Scheduler
from sfsc_service.engine.served_bundle import QueuedRequest, ServedBundle, plan_for_most_urgent


def served(tiny: Bundle) -> ServedBundle:
    networks = open_networks(tiny.folder, None, "cpu", 1)
    return ServedBundle(networks, Scheduler(networks.costs, Capacity(1, max_batch=8, max_batch_ms=50.0)))


def test_a_batch_has_members_of_the_most_urgent_requests_bundle_only(tiny: Bundle) -> None:
    before, after = served(tiny), served(tiny)
    queue = [QueuedRequest(Work(("0.5",), 1e6), bundle) for bundle in (before, after, before)]
    assert plan_for_most_urgent(queue, 0.0, 1) == ((before.networks, "0.5"), [0, 2])


def test_the_time_of_planning_is_remembered_in_milliseconds(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([8.0, 8.25])
    monkeypatch.setattr(
        "sfsc_service.engine.served_bundle.time", SimpleNamespace(perf_counter=lambda: next(readings))
    )
    bundle = served(tiny)
    plan_for_most_urgent([QueuedRequest(Work(("0.5",), 1e6), bundle)], 0.0, 1)
    assert bundle.scheduler.planning_ms == 0.05 * 250.0
