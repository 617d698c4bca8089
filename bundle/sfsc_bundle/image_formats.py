"""The image formats that are accepted: the one table that names them.

A format that is added here is read, decoded, stored, served with its media type, found in folders and listed in
the API's document. Pillow must be able to decode it. The tests of every one of these places run over the rows.
"""

import functools
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from PIL import features

__all__ = ["FORMATS", "IMAGE_FORMATS", "SUFFIXES", "FormatName", "ImageFormat", "available_formats", "media_type"]

FormatName = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"]


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """`name` is Pillow's; `decoder` says what must be installed, where Pillow alone may not do."""

    name: FormatName
    media_type: str
    suffixes: tuple[str, ...]
    decoder: str | None = None


IMAGE_FORMATS = (
    ImageFormat("JPEG", "image/jpeg", (".jpg", ".jpeg")),
    ImageFormat("PNG", "image/png", (".png",)),
    ImageFormat("WEBP", "image/webp", (".webp",)),
    ImageFormat("GIF", "image/gif", (".gif",)),
    ImageFormat("BMP", "image/bmp", (".bmp",)),
    ImageFormat("TIFF", "image/tiff", (".tif", ".tiff"), decoder="a Pillow with libtiff"),
    ImageFormat("HEIF", "image/heif", (".heic", ".heif"), decoder="pillow-heif"),
    ImageFormat("AVIF", "image/avif", (".avif",), decoder="a Pillow with AVIF"),
)
FORMATS: tuple[FormatName, ...] = tuple(one.name for one in IMAGE_FORMATS)
SUFFIXES = tuple(suffix for one in IMAGE_FORMATS for suffix in one.suffixes)

_MEDIA_TYPES: dict[str, str] = {one.name: one.media_type for one in IMAGE_FORMATS}


def media_type(name: FormatName) -> str:
    """The media type of a format."""
    return _MEDIA_TYPES[name]


@functools.cache
def available_formats() -> frozenset[FormatName]:
    """The formats whose decoders are installed."""
    missing: set[FormatName] = set()
    if not features.check("libtiff"):
        missing.add("TIFF")
    if not features.check("avif"):
        missing.add("AVIF")
    if find_spec("pillow_heif") is None:
        missing.add("HEIF")
    return frozenset(FORMATS) - missing
