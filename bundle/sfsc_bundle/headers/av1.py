"""AV1: the size of the frames that a decoder of the pixels makes room for, whatever the file around them says.

AV1 Bitstream & Decoding Process Specification, sections 5.3 (units), 5.5 (sequence header) and 4.10.5 (leb128).
"""

from collections.abc import Iterator

from sfsc_bundle.headers.parsed import cap_exceeded

__all__ = ["MAX_UNITS", "frame_sizes"]

MAX_UNITS = 2**12
"""Units of one image: a header or two, and a few groups of tiles."""
_SEQUENCE_HEADER = 1
_HEADER_BYTES = 512
"""More than the longest sequence header."""


def frame_sizes(pixels: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """Width and height in every sequence header. Raises ImageError, or IndexError where one is cut short."""
    at = 0
    for _ in range(MAX_UNITS):
        if at >= len(pixels):
            return
        kind, extended, sized = pixels[at] >> 3 & 15, pixels[at] >> 2 & 1, pixels[at] >> 1 & 1
        at += 1 + extended
        length, at = _leb128(pixels, at) if sized else (len(pixels) - at, at)
        if kind == _SEQUENCE_HEADER:
            yield _frame_size(_Bits(bytes(pixels[at : at + min(length, _HEADER_BYTES)])))
        at += length
    raise cap_exceeded("the pixels of an AVIF", MAX_UNITS, "units")


def _leb128(pixels: bytes | memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        value |= (pixels[at + place] & 0x7F) << 7 * place
        if not pixels[at + place] & 0x80:
            break
    return value, at + place + 1


class _Bits:
    """The bits of a header, the highest of each byte first."""

    def __init__(self, content: bytes) -> None:
        self._value, self._left = int.from_bytes(content, "big"), 8 * len(content)

    def take(self, count: int) -> int:
        """The next bits as a number."""
        if count > self._left:
            raise IndexError("the header is cut short")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)


def _frame_size(bits: _Bits) -> tuple[int, int]:
    bits.take(3 + 1)  # profile, still picture
    if bits.take(1):  # reduced header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing
        bits.take(32 + 32)
        if bits.take(1):  # equal intervals: a number in Exp-Golomb code
            zeros = 0
            while zeros < 32 and not bits.take(1):
                zeros += 1
            bits.take(zeros if zeros < 32 else 0)
        if bits.take(1):  # decoder model
            delay_bits = bits.take(5) + 1
            bits.take(32 + 5 + 5)
    display_delays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:  # level, and tier above it
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if display_delays and bits.take(1):
            bits.take(4)
