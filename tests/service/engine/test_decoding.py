"""Decoding: who is due first goes first, and memory is bounded however large the images are."""

import asyncio
import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sfsc_bundle.crop import Crop
from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import ImageLimits
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess, to_pixels
from sfsc_service.engine.decoding import Decoding
from sfsc_service.errors import Problem
from tests.service.images import draw_image, half_a_jpeg

SIZE = Preprocessing(height=16, width=16)
START_TIMEOUT_S = 20.0
BLOCKED = 1  # images that a pool of one thread takes in before others have to wait


class Gate:
    """Stands before the real decoder until it is opened; keeps how many were in it at a time.

    Threads older than itself go past: services of other tests live in this process and look after their health.
    """

    def __init__(self) -> None:
        self._open, self._lock = threading.Event(), threading.Lock()
        self._others = frozenset(threading.enumerate())
        self.sides: list[int] = []
        self.inside = self.most = 0

    def __call__(self, image: Any, preprocessing: Preprocessing, crop: Crop | None) -> Any:
        if threading.current_thread() in self._others:
            return to_pixels(image, preprocessing, crop)
        with self._lock:
            self.sides.append(image.width)
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            assert self._open.wait(START_TIMEOUT_S)
            return to_pixels(image, preprocessing, crop)
        finally:
            with self._lock:
                self.inside -= 1

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr("sfsc_service.engine.decoding.to_pixels", made)
    yield made
    made.open()


def decoding(threads: int = 1, waiting: int = 100, pixels: int = 40_000_000) -> Decoding:
    return Decoding(threads, waiting, ImageLimits(max_pixels=pixels))


def start(made: Decoding, side: int, due: float = 0.0, **options: bool) -> "asyncio.Task[Any]":
    """The side tells images apart."""
    return asyncio.create_task(made.run(draw_image(side, size=side), SIZE, due, **options))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while not true():
            await asyncio.sleep(0.01)


def test_pixels_are_those_of_the_one_preprocessing() -> None:
    async def scenario() -> Any:
        made = decoding()
        try:
            return await made.run(draw_image(1), SIZE, 0.0)
        finally:
            made.close()

    np.testing.assert_array_equal(asyncio.run(scenario()), preprocess(draw_image(1), SIZE))


def test_who_is_due_first_goes_first_and_equals_go_by_arrival(gate: Gate) -> None:
    async def scenario() -> None:
        made = decoding()
        blockers = [start(made, 8 + n) for n in range(BLOCKED)]
        await until(lambda: gate.inside == 1)
        rest = [start(made, side, due) for side, due in ((20, 3.0), (21, 1.0), (22, 2.0), (23, 1.0))]
        await asyncio.sleep(0.05)
        gate.open()
        await asyncio.gather(*blockers, *rest)
        made.close()

    asyncio.run(scenario())
    assert gate.sides[BLOCKED:] == [21, 23, 22, 20]


@settings(max_examples=25, deadline=None)
@given(leaving=st.sets(st.integers(0, 7)), broken=st.sets(st.integers(0, 7)))
def test_who_leaves_or_fails_takes_nobodys_turn(leaving: set[int], broken: set[int]) -> None:
    async def scenario() -> None:
        made = decoding()
        tasks = [
            asyncio.create_task(made.run(half_a_jpeg() if n in broken else draw_image(n), SIZE, float(n)))
            for n in range(8)
        ]
        await asyncio.sleep(0)
        for n in leaving:
            tasks[n].cancel()
        for n, outcome in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            wanted = asyncio.CancelledError if n in leaving else ImageError if n in broken else np.ndarray
            assert isinstance(outcome, wanted)
        assert made.backlog_ms(bulk=True) == 0.0
        again = await asyncio.gather(*(made.run(draw_image(n), SIZE, 0.0) for n in range(4)))
        assert len(again) == 4
        made.close()

    asyncio.run(scenario())


def test_too_many_that_wait_are_refused(gate: Gate) -> None:
    async def scenario() -> None:
        made = decoding(waiting=3)
        tasks = [start(made, 16 + n) for n in range(BLOCKED + 3)]
        await until(lambda: gate.inside == 1)
        with pytest.raises(Problem) as caught:
            await made.run(draw_image(1), SIZE, 0.0)
        assert caught.value.code == "queue_full"
        gate.open()
        await asyncio.gather(*tasks)
        made.close()

    asyncio.run(scenario())


def test_images_whose_callers_have_gone_take_nobodys_place(gate: Gate) -> None:
    async def scenario() -> None:
        made = decoding(waiting=3)
        blockers = [start(made, 8 + n) for n in range(BLOCKED)]
        await until(lambda: gate.inside == 1)
        for _ in range(20):
            gone = [start(made, 16 + n) for n in range(3)]
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            outcomes = await asyncio.gather(*gone, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 3
        assert made.backlog_ms(bulk=True) == 0.0
        stay = [start(made, 20 + n) for n in range(3)]
        gate.open()
        await asyncio.gather(*blockers, *stay)
        made.close()

    asyncio.run(scenario())
    assert sorted(gate.sides[BLOCKED:]) == [20, 21, 22]


def test_the_backlog_is_predicted_from_what_was_decoded_and_bulk_ones_do_not_count(gate: Gate) -> None:
    async def scenario() -> None:
        made = decoding()
        first = [start(made, 64) for _ in range(3)]
        await until(lambda: gate.inside == 1)
        assert made.backlog_ms() == 0.0, "nothing is known yet"
        await asyncio.sleep(0.2)
        gate.open()
        await asyncio.gather(*first)
        gate._open.clear()
        tasks = [start(made, 64, bulk=bulk) for bulk in (False, False, True, True)]
        await until(lambda: gate.inside == 1)
        one = made.backlog_ms()
        assert one > 5.0
        assert made.backlog_ms(bulk=True) == pytest.approx(3 * one)
        gate.open()
        await asyncio.gather(*tasks)
        made.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("side", [1500, 1440])
def test_of_large_images_only_two_of_the_largest_are_decoded_at_a_time(gate: Gate, side: int) -> None:
    """Four threads; small images go past the large ones that wait."""

    async def scenario() -> None:
        made = decoding(threads=4, pixels=1500 * 1500)
        large = [start(made, side) for _ in range(3)]
        await until(lambda: gate.inside == 2)
        small = start(made, 16)
        await until(lambda: gate.inside == 3)
        time.sleep(0.05)
        assert sorted(gate.sides) == [16, side, side]
        gate.open()
        await asyncio.gather(*large, small)
        made.close()

    asyncio.run(scenario())
    assert len(gate.sides) == 4


def test_only_small_baseline_jpegs_are_decoded_where_they_arrive() -> None:
    made = decoding()
    buffer = io.BytesIO()
    Image.open(io.BytesIO(draw_image(1))).save(buffer, "JPEG", progressive=True)
    try:
        found = made.decode_now(draw_image(1), SIZE)
        assert found is not None
        np.testing.assert_array_equal(found, preprocess(draw_image(1), SIZE, ImageLimits()))
        for other in (buffer.getvalue(), draw_image(1, format="PNG"), draw_image(1, size=400)):
            assert made.decode_now(other, SIZE) is None
    finally:
        made.close()
