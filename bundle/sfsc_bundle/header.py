"""Read the header of an encoded image and check its format and the caps, before any pixel is decoded."""

import io
import re
import warnings
from dataclasses import dataclass

from PIL import Image

from sfsc_bundle.errors import ImageError
from sfsc_bundle.image_formats import FORMATS

__all__ = ["MAX_SCANS", "MAX_SIDE", "ImageLimits", "open_header"]

MAX_SIDE = 65_535  # JPEG's own limit; a resize needs 16 bytes a pixel of the longer side
MAX_SCANS = 100  # encoders write about ten; each costs 60 bytes in the file and a pass over all pixels

_SCAN_MARKER = b"\xff\xda"
_PILLOWS_MODULES = re.compile(r"PIL\.")


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Caps on one encoded image; Pillow refuses more than 178 million pixels in any case."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 40_000_000


def open_header(data: bytes, limits: ImageLimits) -> Image.Image:
    """Open an image, of which only the header is read, and check all caps.

    Raises:
        ImageError: image_too_large, image_not_recognised, image_too_many_pixels; image_damaged for a JPEG with
            more than MAX_SCANS scans.
    """
    if len(data) > limits.max_bytes:
        raise ImageError("image_too_large", f"image must have at most {limits.max_bytes} bytes, found {len(data)}")
    if not data:
        raise ImageError("image_not_recognised", "image is empty")
    image = _open(data, limits)
    _check_size(*image.size, limits)
    _check_encoding(image, data)
    return image


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    _ignore_pillows_warnings()
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(
            "image_too_many_pixels", f"image must have at most {limits.max_pixels} pixels: {error}"
        ) from error
    except Exception as error:  # on a hostile header Pillow raises almost anything
        raise ImageError(
            "image_not_recognised",
            f"image must be one of {', '.join(FORMATS)}: found {len(data)} bytes that are none of them",
        ) from error


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(
            "image_too_many_pixels",
            f"image must have at most {limits.max_pixels} pixels, found {width}×{height} = {width * height}",
        )
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            "image_too_many_pixels", f"image must have sides of at most {MAX_SIDE}, found {width}×{height}"
        )


def _check_encoding(image: Image.Image, data: bytes) -> None:
    """Refuse encodings with which a small file takes minutes to decode."""
    if image.format in ("JPEG", "MPO") and (scans := data.count(_SCAN_MARKER)) > MAX_SCANS:
        raise ImageError("image_damaged", f"a JPEG must have at most {MAX_SCANS} scans, found {scans}")
    if image.format == "BMP" and image.info.get("compression") in (1, 2):
        raise ImageError("image_not_recognised", "a BMP must not be run-length encoded, found one that is")


def _ignore_pillows_warnings() -> None:
    # Whether an image is accepted must not depend on the caller's filters, and Pillow's warnings add nothing to an
    # ImageError. `catch_warnings` would not do: it changes and restores the filters of all threads.
    ours = ("ignore", None, Warning, _PILLOWS_MODULES, 0)
    if list(warnings.filters[:1]) != [ours]:
        warnings.filterwarnings("ignore", module=_PILLOWS_MODULES.pattern)
