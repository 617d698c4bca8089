"""Read the header of an encoded image and check its format and the caps, before any decoder sees it."""

import struct
from dataclasses import dataclass, field
from typing import assert_never

from sfsc_bundle.errors import ImageError
from sfsc_bundle.headers import bmp, gif, isobmff, jpeg, png, tiff, webp
from sfsc_bundle.headers.parsed import ParsedHeader
from sfsc_bundle.image_formats import IMAGE_FORMATS, FormatName, available_formats

__all__ = ["JPEG_FACTOR", "MAX_SIDE", "ImageHeader", "ImageLimits", "read_header"]

MAX_SIDE = 65_535  # JPEG's own limit; a resize needs 16 bytes a pixel of the longer side
JPEG_FACTOR = 4
"""A JPEG may have so many times the pixels of other images, because it is decoded at a smaller scale."""
_AVIF_BYTES, _HEIF_BYTES = 14.0, 12.0
"""Of memory per pixel: planes, pixels, their bytes, and Pillow's pixels."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Caps on one encoded image, and the formats that are accepted."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 64_000_000
    formats: frozenset[FormatName] = field(default_factory=available_formats)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The format of an image, and what its header says."""

    format: FormatName
    parsed: ParsedHeader

    @property
    def pixels(self) -> int:
        """Width × height."""
        return self.parsed.width * self.parsed.height


def read_header(data: bytes, limits: ImageLimits) -> ImageHeader:
    """Read the header of an image and check all caps. No decoder is called.

    Raises:
        ImageError: image_too_large, image_not_recognised, image_too_many_pixels; image_damaged where the header
            contradicts itself or exceeds a cap on its parts.
    """
    if len(data) > limits.max_bytes:
        raise ImageError("image_too_large", f"image must have at most {limits.max_bytes} bytes, found {len(data)}")
    if not data:
        raise ImageError("image_not_recognised", "image is empty")
    name = _format_of(data)
    if name is None or name not in limits.formats:
        raise _not_accepted(data, name, limits)
    try:
        parsed = _parse(name, data)
    except (struct.error, IndexError) as error:
        raise ImageError("image_not_recognised", f"image is a {name} that ends within its header") from error
    _check_size(name, parsed.width, parsed.height, limits)
    return ImageHeader(name, parsed)


def _format_of(data: bytes) -> FormatName | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(png.SIGNATURE):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith(gif.SIGNATURES):
        return "GIF"
    if data.startswith(tiff.SIGNATURES):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    return isobmff.brand(data)


def _parse(format: FormatName, data: bytes) -> ParsedHeader:
    match format:
        case "JPEG":
            return jpeg.parse(data)
        case "PNG":
            return png.parse(data)
        case "WEBP":
            return webp.parse(data)
        case "GIF":
            return gif.parse(data)
        case "BMP":
            return bmp.parse(data)
        case "TIFF":
            return tiff.parse(data)
        case "HEIF":
            return isobmff.parse(data, _HEIF_BYTES)
        case "AVIF":
            return isobmff.parse(data, _AVIF_BYTES)
        case _:
            assert_never(format)


def _not_accepted(data: bytes, format: FormatName | None, limits: ImageLimits) -> ImageError:
    accepted = ", ".join(one.name for one in IMAGE_FORMATS if one.name in limits.formats)
    if format is None:
        found = f"{len(data)} bytes that are none of them"
    elif format in available_formats():
        found = f"{format}, which is switched off here"
    else:
        decoder = next(one.decoder for one in IMAGE_FORMATS if one.name == format)
        found = f"{format}, which needs {decoder}"
    return ImageError("image_not_recognised", f"image must be one of {accepted}: found {found}")


def _check_size(format: FormatName, width: int, height: int, limits: ImageLimits) -> None:
    if width < 1 or height < 1:
        raise ImageError("image_not_recognised", f"image must have pixels, found {width}×{height}")
    cap = limits.max_pixels * (JPEG_FACTOR if format == "JPEG" else 1)
    if width * height > cap:
        raise ImageError(
            "image_too_many_pixels",
            f"image must have at most {cap} pixels as a {format}, found {width}×{height} = {width * height}",
        )
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            "image_too_many_pixels", f"image must have sides of at most {MAX_SIDE}, found {width}×{height}"
        )
