"""GIF: everything up to the first frame, of which the extension that makes a colour transparent is kept."""

from sfsc_bundle.headers.parsed import ParsedHeader, cap_exceeded, not_recognised

__all__ = ["MAX_BLOCKS", "SIGNATURES", "parse"]

SIGNATURES = (b"GIF87a", b"GIF89a")
MAX_BLOCKS = 2**14
"""Blocks before the first frame, of 255 bytes each: 4 MiB of comments."""

_EXTENSION, _FRAME, _END = 0x21, 0x2C, 0x3B
_CONTROL = 0xF9


def parse(data: bytes) -> ParsedHeader:
    """Read the header of a GIF. Raises ImageError, or IndexError where it is cut short."""
    width, height = _number(data, 6), _number(data, 8)
    start = at = 13 + _palette_bytes(data[10])
    control = b""
    blocks = 0
    while (kind := data[at]) != _FRAME:
        if kind == _END:
            raise not_recognised("has a GIF header, and no frame behind it")
        begin = at
        at += 1
        if kind == _EXTENSION:
            at += 1
            while length := data[at]:
                at += 1 + length
                blocks += 1
                if blocks > MAX_BLOCKS:
                    break
            at += 1
            if data[begin + 1] == _CONTROL:
                control = data[begin:at]
        blocks += 1
        if blocks > MAX_BLOCKS:
            raise cap_exceeded("a GIF", MAX_BLOCKS, "blocks before its first frame")
    # A frame that reaches beyond the canvas makes it larger.
    width = max(width, _number(data, at + 1) + _number(data, at + 5))
    height = max(height, _number(data, at + 3) + _number(data, at + 7))
    kept = start + len(control) == at
    body = data if kept else b"".join([data[:start], control, memoryview(data)[at:]])
    return ParsedHeader(width, height, body, pixel_bytes=2.5)


def _palette_bytes(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _number(data: bytes, at: int) -> int:
    return data[at] | data[at + 1] << 8
