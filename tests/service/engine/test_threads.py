"""One budget of threads: what each part may use, in a running service."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import httpx
import numpy as np
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.engine.arrival import Arrival
from sfsc_service.engine.blocking_calls import BlockingCalls
from sfsc_service.engine.previews import YIELDING
from sfsc_service.engine.threads import split_threads
from sfsc_service.gallery.hit_selection import HitSelection
from sfsc_service.gallery.stages import FILTERED, READERS
from sfsc_service.settings import Settings
from sfsc_service.store.embedded.index import faiss_rows
from sfsc_service.store.protocol import Item
from tests.service.command import serving, until_ready
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running

WRITES = 16  # changes that may wait for their commit at a time; they compute nothing
FIXED = (
    7  # main thread, watchers of the workers and of the search stage, the store's writer, a swap, and two spare
)
HEALTH = 1
IDLE = 1  # heals and measures the quality
SEARCHES = 1 + FILTERED
DUPLICATES = 1
BUDGET = 4
ENOUGH_FOR_FAISS = 3000
"""Fewer items are searched without faiss."""


@pytest.fixture
def wide(settings: Settings) -> Iterator[Live]:
    with running(settings.model_copy(update={"threads": BUDGET})) as made:
        yield made


@pytest.mark.parametrize("threads", range(1, 65))
def test_no_stage_may_use_more_than_the_budget(threads: int) -> None:
    calls, inside = split_threads(threads, "cpu")
    assert calls >= 1
    assert inside >= 1
    assert calls * inside <= threads


def test_onnxruntime_gets_its_share_and_does_not_spin(wide: Live) -> None:
    _, inside = split_threads(BUDGET, "cpu")
    assert inside == 2
    for runner in wide.service.embedder.networks.runners.values():
        options = runner._run.args[0].get_session_options()  # type: ignore[attr-defined]
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (inside, 1)
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_one_search_gets_the_whole_budget_and_faiss_starts_no_threads(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_rows, "_MIN_PART_ROWS", 500)
    used: dict[str, int] = {}
    real = faiss_rows._search_matrix

    def noted(*arguments: Any) -> Any:
        used[threading.current_thread().name] = faiss.omp_get_max_threads()
        time.sleep(0.05)  # so that no thread takes the parts of another
        return real(*arguments)

    monkeypatch.setattr(faiss_rows, "_search_matrix", noted)
    with running(settings.model_copy(update={"threads": BUDGET})) as live:
        gallery, manifest = live.service.gallery, live.service.manifest
        vectors = np.random.default_rng(0).normal(size=(ENOUGH_FOR_FAISS, manifest.dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        items = [Item(str(n), manifest.space, "1.0", vector, {}) for n, vector in enumerate(vectors)]

        async def search() -> int:
            await gallery.commit(items)
            query = await gallery.query_item("1")
            return (await gallery.search(query, HitSelection(1), None, len, Arrival.now())).answer

        assert asyncio.run_coroutine_threadsafe(search(), live.loop).result(30) == 1
    assert len(used) == BUDGET
    assert set(used.values()) == {1}


def test_the_process_has_no_more_threads_than_the_arithmetic_says(tiny: Bundle, tmp_path: Path) -> None:
    workers, inside = split_threads(BUDGET, "cpu")
    widths = len(tiny.manifest.widths)
    blas = os.cpu_count() or 1
    most = (
        FIXED
        + BUDGET
        + workers
        + widths * (inside - 1)
        + SEARCHES * (1 + BUDGET)
        + READERS
        + HEALTH
        + IDLE
        + DUPLICATES
        + WRITES
        + blas
    )
    # A busy machine is slow, and refusals are not the subject.
    options = ("--data", tmp_path, "--port", 0, "--threads", BUDGET, "--queue-ms", 60_000)
    with serving("serve", tiny.folder, *options) as (process, url):
        until_ready(url)

        def call(n: int) -> int:
            width = tiny.manifest.widths[n % widths]
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
                put = http.put(f"/items/{n}", content=draw_image(n), params={"width": width}, headers=JPEG)
                found = http.post("/search", content=draw_image(n), headers=JPEG)
                return max(put.status_code, found.status_code)

        with ThreadPoolExecutor(32) as callers:
            assert set(callers.map(call, range(128))) == {200}
        assert len(os.listdir(f"/proc/{process.pid}/task")) <= most


def test_threads_that_compute_give_way_to_the_event_loop_and_no_others(settings: Settings) -> None:
    with running(settings.model_copy(update={"threads": BUDGET, "nice": 7})) as live:
        for size in (64, 1200):  # decoded where it arrives, and in a thread
            assert live.http.post("/search", content=draw_image(0, size=size), headers=JPEG).status_code == 200
        own = os.getpriority(os.PRIO_PROCESS, 0)
        found = {
            thread.name.rstrip("0123456789_-"): os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) - own
            for thread in threading.enumerate()
        }
    lowered = min(19, own + 7) - own
    assert {found.pop(name) for name in ("batch", "decode", "filter", "sfsc-store-columns")} == {lowered}
    # These are there once there was work for them.
    assert {found.pop(name, lowered) for name in ("duplicates", "idle", "maintenance")} == {lowered}
    assert found.pop("preview") == min(19, own + 7 + YIELDING) - own
    assert {name: nice for name, nice in found.items() if nice} == {}


def test_where_niceness_belongs_to_the_process_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_bundle.thread_priority.sys", SimpleNamespace(platform="sunos5"))
    pool = BlockingCalls("elsewhere", 1, 1, nice=5)

    async def priority() -> int:
        return await pool.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    try:
        assert asyncio.run(priority()) == os.getpriority(os.PRIO_PROCESS, 0)
    finally:
        pool.close()


def test_where_niceness_is_forbidden_threads_work_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    pool = BlockingCalls("forbidden", 2, 1, nice=5)

    async def priority() -> int:
        return await pool.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    try:
        assert asyncio.run(priority()) == os.getpriority(os.PRIO_PROCESS, 0)
    finally:
        pool.close()


def test_a_pool_has_all_its_threads_from_the_start() -> None:
    pool = BlockingCalls("early", 5, 1)
    try:
        assert sum(thread.name.startswith("early") for thread in threading.enumerate()) == 5
    finally:
        pool.close()
