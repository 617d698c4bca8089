"""What was freed is given back to the system, and the service does so by itself."""

import sys
import threading

import numpy as np
import pytest

from sfsc_service.heap import give_back
from sfsc_service.settings import Settings
from tests.service.live import running


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap is meant")
def test_freed_memory_is_given_back() -> None:
    # Blocks below glibc's threshold for mappings of their own, with one that stays on top of them.
    blocks = [np.ones(100_000, np.uint8) for _ in range(1500)]
    last = blocks[-1]
    full = resident_mib()
    blocks.clear()
    give_back()
    assert resident_mib() < full - 100
    assert last.size == 100_000


def test_a_running_service_does_so_by_itself(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    called = threading.Event()
    monkeypatch.setattr("sfsc_service.embedder.give_back", called.set)
    monkeypatch.setattr("sfsc_service.health.TRIM_EVERY_S", 0.0)
    monkeypatch.setattr("sfsc_service.health.CANARY_EVERY_S", 0.1)
    with running(settings):
        assert called.wait(20.0)
