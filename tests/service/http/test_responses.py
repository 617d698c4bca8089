"""Long answers are put together and sent in pieces, whose sum is the same JSON."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfsc_service.http import responses
from sfsc_service.http.responses import hits_json, pieces_response
from sfsc_service.store.protocol import Hit


def hit(number: int, text: int, dimension: int) -> Hit:
    vector = np.full(dimension, 0.5, np.float32) if dimension else None
    metadata = json.dumps({"text": "x" * text, "n": number})
    return Hit(f"item {number}", "space", "0.25", metadata, "digest" if number % 2 else None, 0.5, vector)


@given(texts=st.lists(st.integers(0, 50_000), max_size=20), dimension=st.sampled_from([0, 3, 2_000]))
def test_hits_in_pieces_are_the_same_json(texts: list[int], dimension: int) -> None:
    hits = [hit(number, text, dimension) for number, text in enumerate(texts)]
    pieces = hits_json(hits, "default", "float", None)
    found = json.loads(b"".join(pieces))
    assert [one["id"] for one in found] == [one.id for one in hits]
    assert [one["metadata"] for one in found] == [one.metadata for one in hits]
    assert [len(one.get("embedding", ())) for one in found] == [dimension] * len(hits)
    largest = max((len(one.metadata_json) + 12 * dimension for one in hits), default=0)
    assert max(map(len, pieces)) < 2 * responses.PIECE_BYTES + largest


def test_hits_with_long_ids_are_written_in_pieces_too() -> None:
    hits = [hit(number, 0, 0)._replace(id="\u732b" * 256) for number in range(1024)]
    pieces = hits_json(hits, "default", "float", None)
    assert max(map(len, pieces)) < 2 * responses.PIECE_BYTES
    assert [one["id"] for one in json.loads(b"".join(pieces))] == [one.id for one in hits]


@pytest.mark.parametrize(
    "sizes",
    [[], [1], [10, 20, 30], [70_000], [1, 70_000, 5], [40_000] * 9, [100, 1, 70_000, 3, 2] * 9, [2] * 99_999],
)
def test_a_response_of_pieces_says_how_long_it_is_and_sends_no_large_piece(sizes: list[int]) -> None:
    pieces = [bytes([65 + number % 26]) * size for number, size in enumerate(sizes)]
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(pieces_response(pieces, {"x-one": "1"})({"type": "http"}, None, send))  # type: ignore[arg-type]
    start, *bodies = sent
    headers = dict(start["headers"])
    body = b"".join(message["body"] for message in bodies)
    assert body == b"".join(pieces)
    assert (headers[b"content-length"], headers[b"x-one"]) == (str(len(body)).encode(), b"1")
    assert [message.get("more_body", False) for message in bodies] == [True] * (len(bodies) - 1) + [False]
    assert len(bodies) <= 2 * (len(body) // responses.PIECE_BYTES) + 3, "small pieces are put together"
    assert all(len(message["body"]) <= responses.PIECE_BYTES + max(sizes, default=0) for message in bodies)
