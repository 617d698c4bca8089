"""AVIF: what a decoder makes room for is found in the pixels themselves, in whichever pieces they lie."""

import struct
from collections.abc import Callable

import pytest

from sfsc_bundle.errors import ImageError
from sfsc_bundle.headers.av1 import MAX_UNITS, frame_sizes
from sfsc_bundle.headers.coded_items import CODED, GRID, MOST_CODED, check_items
from sfsc_bundle.headers.item_places import extents


def unit(kind: int, content: bytes) -> bytes:
    """An open bitstream unit with its size."""
    return bytes([kind << 3 | 2, len(content)]) + content


def bits(*fields: tuple[int, int]) -> bytes:
    """(value, bits), and zeros to the end of the last byte."""
    text = "".join(f"{value:0{count}b}" for value, count in fields if count)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


def reduced(width: int, height: int) -> bytes:
    """The sequence header of a still image."""
    fields = ((0, 3), (1, 1), (1, 1), (8, 5), (15, 4), (15, 4), (width - 1, 16), (height - 1, 16))
    return unit(1, bits(*fields))


def full(width: int, height: int) -> bytes:
    """The sequence header of a film, with all that may stand before the size: two operating points with tiers."""
    timing = ((1, 1), (1, 32), (1, 32), (1, 1), (0b00101, 5), (1, 1), (9, 5), (1, 32), (5, 5), (5, 5))
    point = ((1, 12), (9, 5), (1, 1), (1, 1), (0, 10), (0, 10), (0, 1), (1, 1), (3, 4))
    size = ((11, 4), (10, 4), (width - 1, 12), (height - 1, 11))
    return unit(1, bits((0, 3), (0, 1), (0, 1), *timing, (1, 1), (1, 5), *point, *point, *size))


@pytest.mark.parametrize("header", [reduced, full])
def test_the_size_in_a_sequence_header(header: Callable[[int, int], bytes]) -> None:
    pixels = unit(2, b"") + header(1234, 777) + unit(6, bytes(99)) + header(64, 48)
    assert list(frame_sizes(pixels)) == [(1234, 777), (64, 48)]


def test_a_sequence_header_that_is_cut_short() -> None:
    with pytest.raises(IndexError):
        list(frame_sizes(unit(1, bits((0, 3), (0, 1), (0, 1)))))


def test_so_many_units_are_read() -> None:
    with pytest.raises(ImageError, match=f"at most {MAX_UNITS} units"):
        list(frame_sizes(unit(2, b"") * (MAX_UNITS + 1)))


def file_of(items: list[list[bytes]]) -> bytes:
    """A table of where items lie, behind it their pieces."""
    head = 4 + 2 + 2
    length = head + sum(2 + 2 + 2 + 2 + 8 * len(item) for item in items)
    table, body = struct.pack(">IHH", 1 << 24, 0x4400, len(items)), b""
    for number, item in enumerate(items):
        table += struct.pack(">HHHH", number, 0, 0, len(item))
        for piece in item:
            table += struct.pack(">II", length + len(body), len(piece))
            body += piece
    return table + body


def test_the_places_of_items() -> None:
    data = file_of([[b"abc"], [b"de", b"f"]])
    found = [(number, data[start : start + length]) for number, start, length in extents(data, 0, None)]
    assert found == [(0, b"abc"), (1, b"de"), (1, b"f")]


def test_an_item_may_not_be_larger_than_the_image_in_any_piece() -> None:
    header = reduced(640, 480)
    whole, halves = file_of([[header]]), file_of([[header[:5], header[5:]]])
    for data in (whole, halves):
        check_items(data, {0: CODED}, 0, None, 640, 480)
        with pytest.raises(ImageError, match="an AVIF of 64×48 pixels has frames of 640×480"):
            check_items(data, {0: CODED}, 0, None, 64, 48)


def test_a_grid_may_not_be_larger_than_the_image() -> None:
    data = file_of([[bytes([0, 1, 3, 3]) + struct.pack(">II", 8000, 6000)]])
    check_items(data, {0: GRID}, 0, None, 8000, 6000)
    with pytest.raises(ImageError, match="an AVIF of 64×48 pixels has frames of 8000×6000"):
        check_items(data, {0: GRID}, 0, None, 64, 48)


def test_tiles_may_not_be_more_than_cover_an_image_a_few_times() -> None:
    side = 2000
    many = MOST_CODED + 1
    kinds = dict.fromkeys(range(many), CODED)
    check_items(file_of([[reduced(side, side)]] * MOST_CODED), kinds, 0, None, side, side)
    with pytest.raises(ImageError, match=f"2000×2000 pixels is coded in {many * side * side}"):
        check_items(file_of([[reduced(side, side)]] * many), kinds, 0, None, side, side)
