"""Encoded images for the tests of headers and decoding, drawn on the spot."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from sfsc_bundle.image_formats import FORMATS, FormatName, available_formats

__all__ = ["READ_FORMATS", "encoded", "jpeg_segment", "pattern", "with_segments"]

_MISSING = {name: f"no decoder of {name} is installed" for name in FORMATS if name not in available_formats()}
READ_FORMATS = [
    pytest.param(name, marks=pytest.mark.skipif(name in _MISSING, reason=_MISSING.get(name, "")))
    for name in FORMATS
]
"""Parameters of a test: every format; those whose decoder is not installed are skipped."""


def pattern(width: int = 64, height: int = 48, channels: int = 3) -> Image.Image:
    """Coarse blocks of random colours."""
    blocks = np.random.default_rng(5).integers(0, 256, (6, 8, channels), dtype=np.uint8)
    small = Image.fromarray(blocks[..., 0] if channels == 1 else blocks)
    return small.resize((width, height), Image.Resampling.NEAREST)


def encoded(format: FormatName, image: Image.Image | None = None, **options: object) -> bytes:
    """An image in a format, as nearly without loss as the format can."""
    if format == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    close: dict[str, object] = {"WEBP": {"lossless": True}, "BMP": {}, "GIF": {}, "PNG": {}, "TIFF": {}}.get(
        format, {"quality": 95}
    )
    buffer = io.BytesIO()
    (image or pattern()).save(buffer, format, **(close | options))
    return buffer.getvalue()


def jpeg_segment(marker: int, content: bytes) -> bytes:
    """One segment of a JPEG's header."""
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(content)) + content


def with_segments(segments: bytes, jpeg: bytes | None = None) -> bytes:
    """A JPEG with further segments behind its first one."""
    whole = jpeg or encoded("JPEG")
    return whole[:20] + segments + whole[20:]
