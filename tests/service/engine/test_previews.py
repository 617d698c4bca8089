"""Previews wait with empty hands, for a bounded time, and nobody who embeds waits for them."""

import asyncio
import io
import threading
from collections.abc import Iterator

import pytest
from PIL import Image

from sfsc_bundle.header import ImageLimits
from sfsc_bundle.manifest import Preprocessing
from sfsc_service.engine.decode_memory import DecodeMemory
from sfsc_service.engine.decoding import Decoding
from sfsc_service.engine.previews import Previews, previews_at_once
from sfsc_service.errors import Problem
from tests.service.faulty import until
from tests.service.images import draw_image

MIB = 2**20
START_TIMEOUT_S = 30.0


class HeldRead:
    """A file whose reading takes until it is let go; counts how often it was begun."""

    def __init__(self) -> None:
        self.go, self.begun, self.count = threading.Event(), threading.Semaphore(0), 0

    def __call__(self) -> bytes:
        self.count += 1
        self.begun.release()
        assert self.go.wait(START_TIMEOUT_S)
        return draw_image(1, size=64)


@pytest.fixture
def held() -> Iterator[HeldRead]:
    read = HeldRead()
    yield read
    read.go.set()


def make_decoding() -> Decoding:
    return Decoding(1, 100, ImageLimits(), DecodeMemory(2**30, 2, 30.0))


async def occupied(previews: Previews, held: HeldRead) -> "asyncio.Task[bytes]":
    task = asyncio.create_task(previews.make(held, 16))
    assert await asyncio.to_thread(held.begun.acquire, timeout=START_TIMEOUT_S)
    return task


@pytest.mark.parametrize(
    ("threads", "memory", "expected"),
    [(2, 2**30, 2), (64, 2**30, 6), (64, 2**36, 64), (4, 32 * MIB, 1), (1, 2**30, 1)],
)
def test_as_many_are_made_at_a_time_as_threads_and_memory_allow(threads: int, memory: int, expected: int) -> None:
    assert previews_at_once(threads, memory, 20 * MIB) == expected


def test_those_that_wait_read_nothing_and_are_dropped_in_time(held: HeldRead) -> None:
    async def main() -> None:
        decoding = make_decoding()
        previews = Previews(decoding, 1, 50.0, 0)
        busy = await occupied(previews, held)
        waiting = [asyncio.create_task(previews.make(held, 16)) for _ in range(20)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [one.code for one in outcomes if isinstance(one, Problem)] == ["queue_timeout"] * 20
        assert held.count == 1
        held.go.set()
        preview = Image.open(io.BytesIO(await busy))
        assert (preview.format, preview.size) == ("JPEG", (16, 16))
        previews.close()
        decoding.close()

    asyncio.run(main())


def test_those_that_would_wait_too_long_are_refused(held: HeldRead) -> None:
    async def main() -> None:
        decoding = make_decoding()
        previews = Previews(decoding, 1, 50.0, 0)
        previews._stage._mean_ms = 1000.0  # what the ones before are said to have taken
        busy = await occupied(previews, held)
        with pytest.raises(Problem) as caught:
            await previews.make(held, 16)
        assert (caught.value.code, held.count) == ("queue_full", 1)
        held.go.set()
        await busy
        previews.close()
        decoding.close()

    asyncio.run(main())


def test_an_image_to_be_embedded_does_not_wait_for_previews(held: HeldRead) -> None:
    async def main() -> None:
        decoding = make_decoding()
        previews = Previews(decoding, 1, 1e6, 0)
        tasks = [await occupied(previews, held)]
        tasks += [asyncio.create_task(previews.make(held, 16)) for _ in range(20)]
        await asyncio.sleep(0)
        assert decoding.backlog_ms(bulk=True) == 0.0
        image = await decoding.run(draw_image(1, format="PNG"), Preprocessing(height=16, width=16), 1e12)
        assert image.pixels.shape == (16, 16, 3)
        assert held.count == 1
        held.go.set()
        assert len(await asyncio.gather(*tasks)) == 21
        previews.close()
        decoding.close()

    asyncio.run(main())


def test_previews_leave_half_of_the_memory_and_wait_for_it_behind_the_others() -> None:
    memory, order = DecodeMemory(800, 4, 30.0), list[str]()
    assert memory.largest == 700

    def take(name: str, size: int, *, gives_way: bool, go: threading.Event) -> threading.Thread:
        def hold() -> None:
            with memory.reserved(size, name, gives_way=gives_way):
                order.append(name)
                assert go.wait(START_TIMEOUT_S)

        thread = threading.Thread(target=hold)
        thread.start()
        return thread

    first, rest = threading.Event(), threading.Event()
    threads = [take("preview", 300, gives_way=True, go=first)]
    until(lambda: order == ["preview"])
    threads.append(take("second preview", 300, gives_way=True, go=rest))
    until(lambda: len(memory._waiting_behind) == 1)
    threads.append(take("image", 400, gives_way=False, go=first))
    until(lambda: order == ["preview", "image"])
    threads.append(take("large image", 500, gives_way=False, go=rest))
    until(lambda: len(memory._waiting) == 1)
    first.set()
    until(lambda: order == ["preview", "image", "large image"])
    rest.set()
    for thread in threads:
        thread.join(START_TIMEOUT_S)
    assert order[3:] == ["second preview"]
    assert (memory._taken, memory._taken_behind) == (0, 0)


def test_who_leaves_before_its_turn_reads_nothing_and_errors_reach_the_caller(held: HeldRead) -> None:
    def fail() -> bytes:
        raise LookupError("no such file")

    async def main() -> None:
        decoding = make_decoding()
        previews = Previews(decoding, 1, 1e6, 0)
        busy = await occupied(previews, held)
        gone = asyncio.create_task(previews.make(held, 16))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        held.go.set()
        await busy
        with pytest.raises(LookupError):
            await previews.make(fail, 16)
        assert held.count == 1
        previews.close()
        decoding.close()

    asyncio.run(main())
