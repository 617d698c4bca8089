"""HEIC and AVIF: the boxes of an ISO base media file, counted and measured.

Which pixels make the image is for the decoder to find out. EXIF data and tracks are renamed, so that it overlooks
them: in these formats a box of its own turns the image, and a file with tracks has its first frame as an image.
"""

import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from sfsc_bundle.headers.coded_items import CODED, GRID, check_items
from sfsc_bundle.headers.parsed import ParsedHeader, cap_exceeded, damaged, not_recognised

__all__ = ["MAX_BOXES", "MAX_HEADER_BYTES", "MAX_TABLE_BYTES", "brand", "parse"]

MAX_BOXES = 2**13
"""An image of 200 megapixels in tiles of 512 pixels has about 2,000: an entry per tile and a few properties."""
MAX_HEADER_BYTES = 2**20
"""Bytes of the box that describes the image."""
MAX_TABLE_BYTES = 2**16
"""Bytes of one of its tables, which decoders search for each entry."""
DEEP_BYTES = 7.0
"""How much more memory a pixel takes whose samples have more than eight bits."""

_AVIF, _HEIF = (b"avif", b"avis"), (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_CONTAINERS = {b"meta": 4, b"iinf": None, b"iprp": 0, b"ipco": 0, b"iref": 4}
"""Boxes that consist of boxes, and the bytes before the first; for iinf these depend on its version."""
_OF_THE_FILE = frozenset({b"ftyp", b"meta", b"moov", b"mdat", b"idat", b"free", b"skip", b"uuid"})
"""Boxes that a file consists of; where another one does not fit, the file has ended before it."""
_TABLES = frozenset({b"iloc", b"ipma", b"grpl"})
_MAX_DEPTH = 4


class _Box(NamedTuple):
    kind: bytes
    start: int
    """Of the box."""
    content: int
    end: int


class _Found:
    """What the walk through the boxes finds."""

    def __init__(self) -> None:
        self.boxes = 0
        self.sizes: list[tuple[int, int]] = []
        self.renamed: dict[int, bytes] = {}
        """New kinds, by their places."""
        self.items: dict[int, bytes] = {}
        """Kinds of the items whose pixels are checked, by their numbers."""
        self.end: int | None = None
        """Where the last box ends, if something follows that is none."""
        self.is_deep = False
        """Whether samples have more than eight bits."""
        self.places: _Box | None = None
        """The table of where the items lie."""
        self.inside: _Box | None = None
        """Items may lie in the description itself, in this box."""


def brand(data: bytes) -> Literal["AVIF", "HEIF"] | None:
    """Which of the formats a file says it is, None for neither."""
    length = int.from_bytes(data[:4], "big")
    if data[4:8] != b"ftyp":
        return None
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(length, 256), 4))]
    if any(one in _AVIF for one in brands):
        return "AVIF"
    return "HEIF" if any(one in _HEIF for one in brands) else None


def parse(data: bytes, pixel_bytes: float) -> ParsedHeader:
    """Read the header of a HEIC or AVIF file. Raises ImageError, or struct.error where it is cut short."""
    found = _Found()
    described = False
    for box in _boxes(data, 0, len(data), found, is_file=True):
        if box.kind == b"meta":
            described = True
            if box.end - box.start > MAX_HEADER_BYTES:
                raise cap_exceeded("the description of an image", MAX_HEADER_BYTES, "bytes", box.end - box.start)
            _walk(data, box, found, _MAX_DEPTH)
        elif box.kind == b"ftyp":
            brands = range(box.content, min(box.end, box.content + 256), 4)
            found.renamed.update({at: b"avif" for at in brands if data[at : at + 4] == b"avis"})
        elif box.kind == b"moov":
            found.renamed[box.start + 4] = b"free"
    if found.end is not None:
        data = data[: found.end]
    if not described or not found.sizes:
        raise not_recognised("is a HEIC or AVIF file that describes no still image")
    width, height = max(found.sizes, key=lambda size: size[0] * size[1])
    if found.places is not None:
        inside = None if found.inside is None else found.inside.content
        check_items(data, found.items, found.places.content, inside, width, height)
    return ParsedHeader(width, height, _renamed(data, found.renamed), pixel_bytes + DEEP_BYTES * found.is_deep)


def _walk(data: bytes, parent: _Box, found: _Found, depth: int) -> None:
    if depth == 0:
        raise damaged("boxes lie within each other more than four deep")
    before = _CONTAINERS[parent.kind]
    if before is None:
        before = 6 if data[parent.content] == 0 else 8
    for box in _boxes(data, parent.content + before, parent.end, found):
        if box.kind in _CONTAINERS:
            _walk(data, box, found, depth - 1)
            continue
        if box.kind in _TABLES and box.end - box.start > MAX_TABLE_BYTES:
            name = box.kind.decode()
            raise cap_exceeded(f"the table {name} of an image", MAX_TABLE_BYTES, "bytes", box.end - box.start)
        if box.kind == b"ispe":
            found.sizes.append(struct.unpack_from(">II", data, box.content + 4))
        elif box.kind == b"infe":
            number, at = _item(data, box)
            kind = data[at : at + 4]
            if kind == b"Exif":
                found.renamed[at] = b"free"
            elif kind in (CODED, GRID):
                found.items[number] = kind
        elif box.kind == b"hvcC":
            found.is_deep |= data[box.content + 17] & 7 > 0
        elif box.kind == b"av1C":
            found.is_deep |= data[box.content + 2] & 0x40 > 0
        elif box.kind == b"iloc":
            found.places = box
        elif box.kind == b"idat":
            found.inside = box


def _item(data: bytes, box: _Box) -> tuple[int, int]:
    """The number of an item, and the place of its kind."""
    wide = data[box.content] >= 3
    start, length = box.content + 4, 4 if wide else 2
    return int.from_bytes(data[start : start + length], "big"), start + length + 2


def _boxes(data: bytes, at: int, end: int, found: _Found, *, is_file: bool = False) -> Iterator[_Box]:
    while at + 8 <= end:
        found.boxes += 1
        if found.boxes > MAX_BOXES:
            raise cap_exceeded("a HEIC or AVIF file", MAX_BOXES, "boxes")
        length, kind = struct.unpack_from(">I4s", data, at)
        content = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, content)
            content += 8
        elif length == 0:
            length = end - at
        if length < content - at or at + length > end:
            if is_file and kind not in _OF_THE_FILE:
                found.end = at
                return
            raise damaged(f"a box of a HEIC or AVIF file says that it has {length} bytes, found {end - at}")
        yield _Box(kind, at, content, at + length)
        at += length


def _renamed(data: bytes, kinds: dict[int, bytes]) -> bytes:
    if not kinds:
        return data
    parts: list[bytes | memoryview] = []
    at = 0
    for place in sorted(kinds):
        parts += [memoryview(data)[at:place], kinds[place]]
        at = place + 4
    return b"".join([*parts, memoryview(data)[at:]])
