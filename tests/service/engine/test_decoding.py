"""Decoding: who is due first goes first, and memory is bounded however large the images are."""

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sfsc_bundle.crop import Crop
from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import ImageHeader, ImageLimits, read_header
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import decode_bytes, preprocess, to_pixels
from sfsc_service.engine.decode_memory import DecodeMemory
from sfsc_service.engine.decoding import DecodedImage, Decoding
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

    def __call__(self, header: ImageHeader, preprocessing: Preprocessing, crop: Crop | None) -> Any:
        if threading.current_thread() in self._others:
            return to_pixels(header, preprocessing, crop)
        with self._lock:
            self.sides.append(header.parsed.width)
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            assert self._open.wait(START_TIMEOUT_S)
            return to_pixels(header, preprocessing, crop)
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


def decoding(threads: int = 1, waiting: int = 100, memory: int = 2**30, timeout_s: float = 30.0) -> Decoding:
    return Decoding(threads, waiting, ImageLimits(), DecodeMemory(memory, threads, timeout_s))


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

    decoded = asyncio.run(scenario())
    np.testing.assert_array_equal(decoded.pixels, preprocess(draw_image(1), SIZE))
    assert decoded.media_type == "image/jpeg"


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
            wanted = asyncio.CancelledError if n in leaving else ImageError if n in broken else DecodedImage
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


def test_no_more_images_are_decoded_at_a_time_than_memory_allows(gate: Gate) -> None:
    """Four threads, and memory for two."""
    one = decode_bytes(read_header(draw_image(0, size=600, format="PNG"), ImageLimits()), SIZE)

    async def scenario() -> None:
        made = decoding(threads=4, memory=(2 * one + one // 2) * 4 // 3)
        large = [asyncio.create_task(made.run(draw_image(n, size=600, format="PNG"), SIZE, 0.0)) for n in range(3)]
        await until(lambda: gate.inside == 2)
        await asyncio.sleep(0.05)
        assert gate.sides == [600, 600], "a third does not fit"
        gate.open()
        await asyncio.gather(*large)
        made.close()

    asyncio.run(scenario())
    assert len(gate.sides) == 3
    assert gate.most == 2


def test_small_images_go_past_the_large_ones_that_wait_for_memory(gate: Gate) -> None:
    size = decode_bytes(read_header(draw_image(0, size=1600, format="PNG"), ImageLimits()), SIZE)

    async def scenario() -> None:
        made = decoding(threads=3, memory=size * 3 // 2)
        large = [
            asyncio.create_task(made.run(draw_image(n, size=1600, format="PNG"), SIZE, 0.0)) for n in range(2)
        ]
        await until(lambda: gate.inside == 1)
        small = start(made, 16)
        await until(lambda: gate.inside == 2)
        assert sorted(gate.sides) == [16, 1600]
        gate.open()
        await asyncio.gather(*large, small)
        made.close()

    asyncio.run(scenario())


def test_an_image_that_waits_too_long_for_memory_is_refused(gate: Gate) -> None:
    image = draw_image(1, size=300, format="PNG")
    one = decode_bytes(read_header(image, ImageLimits()), SIZE)

    async def scenario() -> None:
        made = decoding(threads=2, memory=2 * one, timeout_s=0.05)
        first = asyncio.create_task(made.run(image, SIZE, 0.0))
        await until(lambda: gate.inside == 1)
        with pytest.raises(Problem, match="those being decoded take all of the 3 MiB that they may") as caught:
            await made.run(image, SIZE, 0.0)
        assert (caught.value.code, caught.value.status) == ("queue_full", 429)
        gate.open()
        await first
        assert (await made.run(image, SIZE, 0.0)).pixels.shape == (16, 16, 3)
        made.close()

    asyncio.run(scenario())


def test_an_image_that_takes_more_memory_than_there_is_is_refused_by_its_header(gate: Gate) -> None:
    async def scenario() -> None:
        made = decoding(memory=16 * 2**20)
        with pytest.raises(
            ImageError, match=r"most 14 MiB of memory .* WEBP of 2000×2000, which takes 7"
        ) as caught:
            await made.run(draw_image(1, size=2000, format="WEBP"), SIZE, 0.0)
        assert caught.value.code == "image_too_many_pixels"
        gate.open()
        assert (await made.run(draw_image(1, size=2000), SIZE, 0.0)).media_type == "image/jpeg"
        made.close()

    asyncio.run(scenario())
    assert gate.sides == [2000], "a JPEG, which is decoded at a smaller scale"


@pytest.mark.parametrize("size", [64, 2000])
def test_a_lack_of_memory_is_not_the_callers_fault(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = draw_image(1, size=size)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", fail)

    async def scenario() -> Any:
        made = decoding()
        try:
            made.decode_now(image, SIZE)
            return await made.run(image, SIZE, 0.0)
        finally:
            made.close()

    with pytest.raises(Problem) as caught:
        asyncio.run(scenario())
    assert (caught.value.code, caught.value.status) == ("out_of_memory", 503)


def test_only_small_baseline_jpegs_are_decoded_where_they_arrive() -> None:
    made = decoding()
    buffer = io.BytesIO()
    Image.open(io.BytesIO(draw_image(1))).save(buffer, "JPEG", progressive=True)
    try:
        found = made.decode_now(draw_image(1), SIZE)
        assert found is not None
        np.testing.assert_array_equal(found.pixels, preprocess(draw_image(1), SIZE, ImageLimits()))
        for other in (buffer.getvalue(), draw_image(1, format="PNG"), draw_image(1, size=400)):
            assert made.decode_now(other, SIZE) is None
    finally:
        made.close()
