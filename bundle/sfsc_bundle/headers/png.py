"""PNG: all chunks, of which those are kept that decide the pixels; nothing is inflated but one short text.

As in browsers, an ancillary chunk with a wrong checksum is ignored, and a critical one is damage. Of an animation
the default image is kept.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from sfsc_bundle.headers.exif import orientation_of
from sfsc_bundle.headers.parsed import ParsedHeader, cap_exceeded, damaged, not_recognised

__all__ = ["MAX_CHUNKS", "SIGNATURE", "parse"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 2**13
"""Encoders write pixels in chunks of 8 KiB and more, or a chunk per row."""

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_RAW_PROFILE = b"Raw profile type exif\0"
_XMP = b"XML:com.adobe.xmp\0"
_READ_TEXT_BYTES = 2**16
"""How much of a text is inflated: orientations stand at the beginning of EXIF data."""
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by the header's colour type."""
_HEX_LINES = re.compile(rb"\n.*\n.*\n([0-9a-fA-F\s]*)")


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    """Of the content."""
    end: int


def parse(data: bytes) -> ParsedHeader:
    """Read the header of a PNG. Raises ImageError, or struct.error where it is cut short."""
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    if data[12:16] != b"IHDR" or colour not in _SAMPLES or not width or not height:
        raise not_recognised("has the signature of a PNG, and no header with a size and colours behind it")
    palette = transparency = exif = xmp = b""
    pixels: list[int] = []
    for chunk in _chunks(data):
        kind = chunk.kind
        if kind == b"IDAT":
            if not pixels:
                pixels = [chunk.start - 8, chunk.start - 8]
            if pixels[1] == chunk.start - 8:  # those after another kind of chunk are not part of the image
                pixels[1] = chunk.end + 4
        elif not kind[0] & 0x20 and kind not in (b"IHDR", b"PLTE", b"IEND"):
            raise damaged(f"a PNG must not have critical chunks of unknown kinds, found {kind.decode('latin-1')}")
        elif not pixels and kind == b"PLTE":
            palette = data[chunk.start - 8 : chunk.end + 4]
        elif not pixels and kind == b"tRNS" and not transparency and _intact(data, chunk):
            transparency = data[chunk.start - 8 : chunk.end + 4]
        elif kind == b"eXIf" and not exif and _intact(data, chunk):
            exif = data[chunk.start : chunk.end]
        elif kind in _TEXTS and not (exif and xmp):
            exif, xmp = exif or _raw_profile(data, chunk), xmp or _xmp(data, chunk)
    if not pixels:
        raise damaged("a PNG has no pixels")
    body = memoryview(data)[pixels[0] : pixels[1]]
    parts: list[bytes | memoryview] = [data[:33], palette, transparency, body]
    return ParsedHeader(
        width,
        height,
        data if sum(map(len, parts)) + 12 == len(data) else b"".join([*parts, _END]),
        pixel_bytes=_pixel_bytes(depth, colour),
        orientation=orientation_of(exif, xmp),
    )


_END = b"\0\0\0\0IEND\xaeB`\x82"


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """The chunks up to the end, of which the last may be cut short; those that are critical are intact."""
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk = _Chunk(kind, at + 8, at + 8 + length)
        if not kind.isalpha():
            raise damaged("a PNG must consist of chunks, found one whose kind is no word")
        if not kind[0] & 0x20 and chunk.end + 4 <= len(data) and not _intact(data, chunk):
            raise damaged(f"the checksum of a PNG's chunk {kind.decode('latin-1')} is wrong")
        yield chunk
        if kind == b"IEND":
            return
        at = chunk.end + 4
    raise cap_exceeded("a PNG", MAX_CHUNKS, "chunks")


def _intact(data: bytes, chunk: _Chunk) -> bool:
    checksum = zlib.crc32(memoryview(data)[chunk.start - 4 : chunk.end])
    return data[chunk.end : chunk.end + 4] == checksum.to_bytes(4, "big")


def _raw_profile(data: bytes, chunk: _Chunk) -> bytes:
    """EXIF data as hexadecimal digits, ImageMagick's way before there were chunks for it."""
    start = chunk.start + len(_RAW_PROFILE)
    if not data.startswith(_RAW_PROFILE, chunk.start) or chunk.kind == b"iTXt":
        return b""
    text = data[start : min(chunk.end, start + _READ_TEXT_BYTES)]
    if chunk.kind == b"zTXt":
        text = _inflated(text[1:])
    digits = _HEX_LINES.match(text)
    whole = b"" if digits is None else b"".join(digits[1].split())
    return bytes.fromhex(whole[: len(whole) // 2 * 2].decode())


def _xmp(data: bytes, chunk: _Chunk) -> bytes:
    if chunk.kind != b"iTXt" or not data.startswith(_XMP, chunk.start):
        return b""
    start = chunk.start + len(_XMP)
    text = data[start : min(chunk.end, start + _READ_TEXT_BYTES)]
    if not text.startswith(b"\1"):
        return text
    return _inflated(text[2:].partition(b"\0")[2].partition(b"\0")[2])


def _inflated(text: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(text, _READ_TEXT_BYTES)
    except zlib.error:
        return b""


def _pixel_bytes(depth: int, colour: int) -> float:
    """As Pillow holds them: grey and palettes in a byte, 16-bit grey in two, all others in four; and a channel."""
    if _SAMPLES[colour] == 1:
        return 3.0 if depth == 16 else 2.0
    return 5.0
