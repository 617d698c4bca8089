"""WebP: the chunks of the RIFF file, of which the first frame and what it needs are kept."""

import struct
from collections.abc import Iterator

from sfsc_bundle.headers.exif import orientation_of
from sfsc_bundle.headers.parsed import ParsedHeader, cap_exceeded, damaged, not_recognised

__all__ = ["MAX_CHUNKS", "parse"]

MAX_CHUNKS = 2**14
"""An animation has a chunk per frame."""

_ALPHA, _ANIMATED = 0x10, 0x02
"""Flags of VP8X; those of profile, EXIF data and XMP are left out with their chunks."""
_PIXEL_BYTES = 19.0
"""Two canvases, one lossless frame, its bytes, and Pillow's pixels: four bytes each."""


def parse(data: bytes) -> ParsedHeader:
    """Read the header of a WebP. Raises ImageError, or struct.error and IndexError where it is cut short."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise damaged(f"a WEBP says that it has {end} bytes, found {len(data)}")
    first: dict[bytes, tuple[int, int]] = {}
    for kind, start, stop in _chunks(data, end):
        first.setdefault(kind, (start, stop))
    exif, xmp = (data[slice(*first.get(kind, (0, 0)))] for kind in (b"EXIF", b"XMP "))
    wanted = _wanted(data, first)
    body = b"".join(_chunk(kind, content) for kind, content in wanted)
    kind, content = wanted[0]
    width, height = _size(kind, content)
    return ParsedHeader(
        width,
        height,
        b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WEBP" + body,
        pixel_bytes=_PIXEL_BYTES,
        orientation=orientation_of(exif, xmp),
    )


def _wanted(data: bytes, first: dict[bytes, tuple[int, int]]) -> list[tuple[bytes, memoryview]]:
    """Kind and content of what is kept, in the order of the format."""

    def content(kind: bytes) -> tuple[bytes, memoryview]:
        return kind, memoryview(data)[slice(*first[kind])]

    still = next((kind for kind in (b"VP8 ", b"VP8L") if kind in first), None)
    if b"VP8X" not in first:
        if still is None:
            raise not_recognised("has a WEBP header, and no pixels")
        return [content(still)]
    start, stop = first[b"VP8X"]
    flags = data[start] & (_ALPHA | _ANIMATED)
    canvas = (b"VP8X", memoryview(bytes([flags]) + data[start + 1 : min(stop, start + 10)]))
    needed = [b"ANIM", b"ANMF"] if flags & _ANIMATED else [b"ALPH", still or b"VP8 "]
    return [canvas, *(content(kind) for kind in needed if kind in first)]


def _chunks(data: bytes, end: int) -> Iterator[tuple[bytes, int, int]]:
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > end:
            return
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            raise damaged(f"a chunk of a WEBP says that it has {length} bytes, found {end - at - 8}")
        yield kind, at + 8, at + 8 + length
        at += 8 + length + (length & 1)
    raise cap_exceeded("a WEBP", MAX_CHUNKS, "chunks")


def _chunk(kind: bytes, content: memoryview) -> bytes:
    return b"".join([kind, len(content).to_bytes(4, "little"), content, bytes(len(content) & 1)])


def _size(kind: bytes, content: memoryview) -> tuple[int, int]:
    if kind == b"VP8X":
        return int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(content[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, 6)
    return width & 0x3FFF, height & 0x3FFF
