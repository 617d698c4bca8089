"""JPEG: segments up to the first scan, and the scans of an image that has several.

Kept are the tables, the frame and what says how its colours are meant; all other segments, and bytes between them,
are left out. What follows the pixels, such as the video of a motion photo, is never looked at.
"""

import re
from typing import NamedTuple

from sfsc_bundle.headers.exif import orientation_of
from sfsc_bundle.headers.parsed import ParsedHeader, cap_exceeded, damaged, not_recognised

__all__ = ["MAX_FILL_BYTES", "MAX_HEADER_BYTES", "MAX_SCANNED_PIXELS", "MAX_SCANS", "MAX_SEGMENTS", "parse"]

MAX_SEGMENTS = 1000
"""Segments before the first scan: a profile may take 255, depth maps and provenance some hundred more."""
MAX_HEADER_BYTES = 16 * 2**20
"""Bytes before the first scan: 256 segments of the largest size."""
MAX_FILL_BYTES = 2**16
"""Bytes between segments, in which a decoder looks for the next marker: encoders write a few at most."""
MAX_SCANS = 100
"""Encoders write about ten; each costs 60 bytes in the file and a pass over all coefficients."""
MAX_SCANNED_PIXELS = 4_000_000_000
"""Pixels × scans: 40 megapixels in 100 scans, or 200 in 20."""

_SOI, _SOS, _EOI = 0xD8, 0xDA, 0xD9
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x01, _SOI, *range(0xD0, 0xD8)})
"""Markers without a segment."""
_COLOURS = {0xE0: b"JFIF\0", 0xEE: b"Adobe"}

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_WINDOW = 2**16
"""Bytes that are searched at once: a regular expression holds the GIL while it searches."""


class _Segment(NamedTuple):
    marker: int
    start: int
    end: int
    fill: int
    """Bytes between the end of the segment before it and its start."""


def parse(data: bytes) -> ParsedHeader:
    """Read the header of a JPEG. Raises ImageError, or struct.error and IndexError where it is cut short."""
    kept, frame, exif, xmp = [b"\xff\xd8"], b"", b"", b""
    at, fill, progressive = 2, 0, False
    for _ in range(MAX_SEGMENTS):
        segment = _next_segment(data, at)
        marker, at = segment.marker, segment.end
        fill += segment.fill
        if fill > MAX_FILL_BYTES:
            raise cap_exceeded("a JPEG", MAX_FILL_BYTES, "bytes between the segments of its header")
        if at > MAX_HEADER_BYTES:
            raise cap_exceeded("a JPEG", MAX_HEADER_BYTES, "bytes before its pixels")
        if marker == _SOS:
            break
        content = segment.start + 4
        if marker in _FRAMES:
            if frame:
                raise damaged("its JPEG header has two frames")
            frame, progressive = data[content:at], marker in _PROGRESSIVE
        elif marker == 0xE1:
            if not exif and data.startswith(b"Exif\0\0", content):
                exif = data[content:at]
            elif not xmp and data.startswith(b"http://ns.adobe.com/xap/1.0/\0", content):
                xmp = data[content:at]
        if marker in _FRAMES or marker in _TABLES or _says_colours(data, marker, content):
            kept.append(data[segment.start : at])
        elif marker == _EOI:
            raise not_recognised("has a JPEG header, and ends before its pixels")
    else:
        raise cap_exceeded("a JPEG", MAX_SEGMENTS, "segments before its pixels")
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        raise not_recognised("has pixels of a JPEG, and no whole frame before them")
    return _header(data, kept, frame, segment.start, progressive, orientation_of(exif, xmp))


def _header(
    data: bytes, kept: list[bytes], frame: bytes, scan: int, progressive: bool, orientation: int
) -> ParsedHeader:
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    components = frame[5]
    several = progressive or data[scan + 4] < components
    scans = _count_scans(data, scan) if several else 1
    if scans * width * height > MAX_SCANNED_PIXELS:
        raise cap_exceeded(
            f"a JPEG of {width}×{height} pixels", max(1, MAX_SCANNED_PIXELS // (width * height)), "scans", scans
        )
    whole = sum(map(len, kept)) == scan
    return ParsedHeader(
        width,
        height,
        data if whole else b"".join([*kept, memoryview(data)[scan:]]),
        pixel_bytes={1: 1.0, 3: 4.0}.get(components, 5.0),
        orientation=orientation,
        coefficient_bytes=_coefficient_bytes(frame) if several else 0.0,
        scans=scans,
    )


def _next_segment(data: bytes, at: int) -> _Segment:
    found = _MARKER.search(data, at, at + MAX_FILL_BYTES + 2)
    if found is None:
        if len(data) > at + MAX_FILL_BYTES:
            raise cap_exceeded("a JPEG", MAX_FILL_BYTES, "bytes between the segments of its header")
        raise not_recognised("has a JPEG header, and ends before its pixels")
    start, marker = found.start(), data[found.start() + 1]
    if marker in _ALONE or marker == _EOI:
        return _Segment(marker, start, start + 2, start - at)
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    if length < 2 or start + 2 + length > len(data):
        raise not_recognised("has a JPEG header, and ends before its pixels")
    return _Segment(marker, start, start + 2 + length, start - at)


def _says_colours(data: bytes, marker: int, content: int) -> bool:
    prefix = _COLOURS.get(marker)
    return prefix is not None and data.startswith(prefix, content)


def _count_scans(data: bytes, at: int) -> int:
    """Scans of the image that begins at the marker of the first one. Stops above MAX_SCANS."""
    scans = segments = 0
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _EOI or at + 2 + length > len(data):
            return scans
        scans += marker == _SOS
        segments += 1
        if scans > MAX_SCANS:
            raise cap_exceeded("a JPEG", MAX_SCANS, "scans")
        if segments > MAX_SEGMENTS:
            raise cap_exceeded("a JPEG", MAX_SEGMENTS, "segments between its scans")
        found = _find_marker(data, at + 2 + max(length, 2))
        if found is None:
            return scans
        at = found


def _find_marker(data: bytes, at: int) -> int | None:
    for start in range(at, len(data), _WINDOW):
        if (found := _MARKER_IN_SCAN.search(data, start, start + _WINDOW + 1)) is not None:
            return found.start()
    return None


def _coefficient_bytes(frame: bytes) -> float:
    """Bytes of all coefficients per pixel: two for each sample, of which a subsampled component has fewer."""
    factors = [(one >> 4, one & 15) for one in frame[7::3]]
    widest, highest = (max(side, default=1) or 1 for side in zip(*factors, strict=True))
    return 2 * sum(h * v for h, v in factors) / (widest * highest)
