"""A window of items that is more than the queue takes at once: none is lost that gets through in time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sfsc_service.errors import Problem
from sfsc_service.gallery.bulk_insert import (
    WINDOW_IMAGES,
    WINDOW_ITEMS,
    WINDOW_TEXT_BYTES,
    FailedItem,
    upsert_many,
)
from sfsc_service.gallery.bulk_load import BulkLoad
from sfsc_service.gallery.gallery import ClientVector, NewItem
from sfsc_service.store.protocol import Outcome

TURN_S = 0.005


class SlowGallery:
    """Stands in for a gallery on a slow machine, whose queue takes so many items a turn."""

    def __init__(self, a_turn: int) -> None:
        self.a_turn, self.taken, self.tried, self.began = a_turn, 0, 0, 0.0

    async def prepare(self, new: NewItem, _arrival: Any) -> tuple[Any, NewItem]:
        self.tried += 1
        now = asyncio.get_running_loop().time()
        self.began = self.began or now
        if self.taken >= self.a_turn * (1 + int((now - self.began) / TURN_S)):
            raise Problem("queue_full", "the queue is full", retry_after_s=2 * TURN_S)
        self.taken += 1
        return None, new

    async def prepare_vectors(self, vectors: list[NewItem]) -> list[tuple[Any, NewItem]]:
        return [(None, new) for new in vectors]

    async def commit(self, items: list[NewItem]) -> list[Outcome]:
        return [Outcome.CREATED] * len(items)


def inserted(gallery: SlowGallery, count: int, limit_s: float = 60.0) -> list[Any]:
    async def items() -> AsyncIterator[list[NewItem]]:
        for number in range(count):
            yield [NewItem(str(number), b"")]

    async def outcomes() -> list[Any]:
        with BulkLoad(lambda _: limit_s).call() as call:
            windows = [window async for window in upsert_many(gallery, items(), call)]  # type: ignore[arg-type]
        return [outcome for window in windows for outcome in window]

    return asyncio.run(outcomes())


def test_a_window_that_the_queue_takes_in_parts_loses_nothing() -> None:
    found = inserted(SlowGallery(a_turn=1), 64)
    assert not any(isinstance(outcome, FailedItem) for outcome in found)
    assert [outcome.id for outcome in found] == [str(number) for number in range(64)]


def test_a_queue_that_takes_nothing_refuses_when_the_time_is_over() -> None:
    gallery = SlowGallery(a_turn=0)
    found = inserted(gallery, 3, limit_s=10 * TURN_S)
    assert [outcome.error.code for outcome in found] == ["queue_full"] * 3
    assert 3 <= gallery.tried <= 3 * 5


def test_what_follows_a_window_that_was_given_up_is_refused_at_once() -> None:
    gallery = SlowGallery(a_turn=0)
    found = inserted(gallery, 2 * WINDOW_IMAGES + 1, limit_s=TURN_S)
    codes = [outcome.error.code for outcome in found]
    assert codes == ["queue_full"] * WINDOW_IMAGES + ["bulk_full"] * (WINDOW_IMAGES + 1)
    assert gallery.tried == WINDOW_IMAGES


def committed_at_once(items: list[NewItem | FailedItem]) -> list[int]:
    sizes = []

    class Noting(SlowGallery):
        async def commit(self, items: list[NewItem]) -> list[Outcome]:
            sizes.append(len(items))
            return await super().commit(items)

    async def given() -> AsyncIterator[list[NewItem | FailedItem]]:
        for item in items:
            yield [item]

    async def count() -> int:
        gallery = Noting(10**6)
        with BulkLoad(lambda _: 60.0).call() as call:
            windows = upsert_many(gallery, given(), call)  # type: ignore[arg-type]
            return sum([len(window) async for window in windows])

    assert asyncio.run(count()) == len(items)
    return sizes


def test_a_window_has_few_images_many_vectors_and_little_text() -> None:
    vector = ClientVector([1.0], "1.0", "space")
    assert committed_at_once([NewItem("x", b"image")] * 100) == [WINDOW_IMAGES, 100 - WINDOW_IMAGES]
    assert committed_at_once([NewItem("x", vector)] * (WINDOW_ITEMS + 1)) == [WINDOW_ITEMS, 1]
    long = WINDOW_TEXT_BYTES // 4
    assert committed_at_once([NewItem("x", vector, text_bytes=long)] * 10) == [4, 4, 2]
    wrong = FailedItem("x", Problem("invalid_json", "wrong"), text_bytes=long)
    assert committed_at_once([wrong, NewItem("x", vector, text_bytes=3 * long), NewItem("x", vector)]) == [1, 1]
