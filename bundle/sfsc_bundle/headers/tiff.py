"""TIFF: the first directory, written anew with the tags alone that decide the pixels.

Values stay where they are in the file. Later pages are never looked at.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from sfsc_bundle.headers.exif import orientation_of
from sfsc_bundle.headers.parsed import ParsedHeader, cap_exceeded, damaged, not_recognised

__all__ = ["MAX_ENTRIES", "MAX_VALUES", "SIGNATURES", "parse"]

SIGNATURES = (b"II*\0", b"MM\0*")
MAX_ENTRIES = 512
"""Tags of a directory: scanners and cameras write up to a hundred."""
MAX_VALUES = 2**18
"""Values of all tags that decide the pixels: offset and length of a strip for every row, twice."""
MAX_TILE_SHARE = 4
"""Tiles at the edge reach beyond the image; no tile is larger than so many images, or than this side squared."""
_SMALL_TILE = 2**20

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIPS, _ORIENTATION = 256, 257, 258, 259, 273, 274
_SAMPLES, _ROWS, _STRIP_LENGTHS, _PLANES = 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_LENGTHS, _SAMPLE_FORMAT = 322, 323, 324, 325, 339
_KEPT = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIPS, _SAMPLES, _ROWS, _STRIP_LENGTHS, _PLANES, _TILE_WIDTH}
    | {_TILE_HEIGHT, _TILES, _TILE_LENGTHS, _SAMPLE_FORMAT, 262, 266, 292, 293, 317, 320, 332, 338, 347, 530, 532}
)
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
"""None, fax, LZW, JPEG, deflate and PackBits."""
_MAX_BITS, _MAX_SAMPLES = 16, 6
_INTEGERS = {1: "B", 3: "H", 4: "I"}


@dataclass(frozen=True, slots=True)
class _Tag:
    kind: int
    count: int
    entry: bytes
    """The twelve bytes of the directory."""


def parse(data: bytes) -> ParsedHeader:
    """Read the header of a TIFF. Raises ImageError, or struct.error where it is cut short."""
    order = "<" if data.startswith(b"II") else ">"
    tags = _directory(data, order)
    numbers = {tag: _first_value(data, order, tags[tag]) for tag in tags}
    width, height = numbers.get(_WIDTH, 0), numbers.get(_HEIGHT, 0)
    if width < 1 or height < 1:
        raise not_recognised("has a TIFF header, and no size in its first directory")
    _check_encoding(numbers)
    _check_whole(data, order, tags)
    stored = _check_tiles(tags, numbers, width, height)
    kept = b"".join(tags[tag].entry for tag in sorted(tags) if tag in _KEPT)
    directory = struct.pack(order + "H", len(kept) // 12) + kept + bytes(4)
    padding = len(data) & 1
    start = struct.pack(order + "I", len(data) + padding)
    body = b"".join([data[:4], start, memoryview(data)[8:], bytes(padding), directory])
    orientation = _as_exif(order, tags.get(_ORIENTATION))
    return ParsedHeader(width, height, body, 5.5 + stored / (width * height), orientation_of(orientation))


def _directory(data: bytes, order: str) -> dict[int, _Tag]:
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    if count > MAX_ENTRIES:
        raise cap_exceeded("a TIFF", MAX_ENTRIES, "tags in its first directory", count)
    tags: dict[int, _Tag] = {}
    values = 0
    for entry in _entries(data, start + 2, count):
        tag, kind, found = struct.unpack_from(order + "HHI", entry)
        if tag not in _KEPT and tag != _ORIENTATION:
            continue
        values += found
        if values > MAX_VALUES:
            raise cap_exceeded("a TIFF", MAX_VALUES, "values of the tags that decide its pixels")
        tags.setdefault(tag, _Tag(kind, found, entry))
    return tags


def _entries(data: bytes, start: int, count: int) -> Iterator[bytes]:
    if start + 12 * count > len(data):
        raise not_recognised("has a TIFF header, and ends within its first directory")
    for at in range(start, start + 12 * count, 12):
        yield data[at : at + 12]


def _values(data: bytes, order: str, tag: _Tag, most: int = MAX_VALUES) -> tuple[int, ...]:
    """The first of its values, none where these are no integers."""
    if tag.kind not in _INTEGERS:
        return ()
    letter = _INTEGERS[tag.kind]
    inline = tag.count * struct.calcsize(order + letter) <= 4
    place, at = (tag.entry, 8) if inline else (data, struct.unpack_from(order + "I", tag.entry, 8)[0])
    return struct.unpack_from(f"{order}{min(tag.count, most)}{letter}", place, at)


def _first_value(data: bytes, order: str, tag: _Tag) -> int:
    """The first of its values, 0 where it has none."""
    return next(iter(_values(data, order, tag, 1)), 0)


def _check_whole(data: bytes, order: str, tags: dict[int, _Tag]) -> None:
    """Check that all pixels lie in the file: what is written behind it must not be taken for some."""
    for places, lengths in ((_STRIPS, _STRIP_LENGTHS), (_TILES, _TILE_LENGTHS)):
        if places in tags and lengths in tags:
            pairs = zip(_values(data, order, tags[places]), _values(data, order, tags[lengths]), strict=False)
            if any(place + length > len(data) for place, length in pairs):
                raise damaged("a TIFF ends before its last pixels")


def _check_encoding(numbers: dict[int, int]) -> None:
    if (compression := numbers.get(_COMPRESSION, 1)) not in _COMPRESSIONS:
        raise not_recognised(f"is a TIFF of compression {compression}, which is not accepted")
    if numbers.get(_SAMPLES, 1) > _MAX_SAMPLES:
        raise not_recognised(
            f"is a TIFF of {numbers[_SAMPLES]} samples a pixel; at most {_MAX_SAMPLES} are accepted"
        )
    if numbers.get(_SAMPLE_FORMAT, 1) != 1:
        raise not_recognised("is a TIFF whose samples are not unsigned integers, which is not accepted")
    if numbers.get(_BITS, 1) > _MAX_BITS:
        raise not_recognised(f"is a TIFF of {numbers[_BITS]} bits a sample; at most {_MAX_BITS} are accepted")


def _check_tiles(tags: dict[int, _Tag], numbers: dict[int, int], width: int, height: int) -> int:
    """Check that the image has no more tiles or strips than cover it; returns the bytes that one of them takes."""
    if _TILES in tags:
        across, down, found = numbers.get(_TILE_WIDTH, 0), numbers.get(_TILE_HEIGHT, 0), tags[_TILES].count
    else:
        across, down = width, min(numbers.get(_ROWS, height), height)
        found = tags[_STRIPS].count if _STRIPS in tags else 0
    if across < 1 or down < 1:
        raise damaged("the tiles of a TIFF have no size")
    if across * down > max(MAX_TILE_SHARE * width * height, _SMALL_TILE):
        raise damaged(f"a TIFF of {width}×{height} pixels has tiles of {across}×{down}")
    samples = max(1, numbers.get(_SAMPLES, 1))
    planes = samples if numbers.get(_PLANES, 1) == 2 else 1
    needed = ceil(width / across) * ceil(height / down) * planes
    if found > needed:
        raise damaged(f"a TIFF has {found} tiles or strips, of which {needed} cover it")
    return across * down * samples * (2 if numbers.get(_BITS, 1) > 8 else 1)


def _as_exif(order: str, orientation: _Tag | None) -> bytes:
    """The tag alone, as EXIF data."""
    if orientation is None:
        return b""
    start = SIGNATURES[0 if order == "<" else 1] + struct.pack(order + "IH", 8, 1)
    return start + orientation.entry + bytes(4)
