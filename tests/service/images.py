"""Images for tests: drawn, never read from a data set; and some that were made to hurt."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

__all__ = ["draw_image", "half_a_jpeg", "huge_png"]


def draw_image(seed: int, *, size: int = 64, format: str = "JPEG", quality: int = 95) -> bytes:
    """A coarse random pattern, different for every seed and alike at every width of the tiny bundle."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(buffer, format, quality=quality)
    return buffer.getvalue()


def half_a_jpeg() -> bytes:
    """A good header and not enough behind it."""
    whole = draw_image(1, size=128)
    return whole[: len(whole) // 2]


def huge_png(side: int = 14_143) -> bytes:
    """About 200 megapixels in some 30 KB: a decompression bomb."""
    row = zlib.compressobj(9)
    line = b"\0" + b"\0" * ((side + 7) // 8)
    data = b"".join(row.compress(line) for _ in range(side)) + row.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
