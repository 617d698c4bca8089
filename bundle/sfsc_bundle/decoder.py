"""Open an image whose header has been read with Pillow, which gets nothing but what decides the pixels."""

import contextlib
import ctypes
import functools
import io
import re
import warnings
from typing import assert_never

from PIL import AvifImagePlugin, Image, _imaging
from PIL.JpegImagePlugin import JpegImageFile

from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import ImageHeader
from sfsc_bundle.headers.exif import orientation_of
from sfsc_bundle.image_formats import FormatName

__all__ = ["JpegFile", "load_pixels", "open_image", "orientation_in"]

END_MARKER = b"\xff\xd9"
MORE_PIXELS = bytes(range(250, 0, -1)) * 16
"""Bytes that a decoder takes for pixels as long as any are missing."""

_PILLOWS_MODULES = re.compile(r"PIL\.")


class JpegFile(JpegImageFile):
    """A JPEG of any size, which may lack its end marker; `ended_early` tells whether it does."""

    tail = END_MARKER
    """What is read behind the end of the file, once."""
    ended_early = False

    def load_read(self, read_bytes: int) -> bytes:
        """The next bytes of the file, for the decoder."""
        found = super().load_read(read_bytes)
        if found or self.ended_early:
            return found
        self.ended_early = True
        return self.tail


def open_image(header: ImageHeader, *, longer: bool = False) -> Image.Image:
    """Open an image, of which no pixel is decoded.

    Args:
        longer: whether a JPEG that lacks its end marker is taken to go on, rather than to end there.

    Raises:
        ImageError: image_not_recognised.
        MemoryError: there is not enough memory.
    """
    _ignore_pillows_warnings()
    source = io.BytesIO(header.parsed.data)
    try:
        if header.format == "JPEG":
            # Not Image.open, which refuses more than 178 million pixels, however small they are decoded.
            return _open_jpeg(source, header.parsed.data, longer=longer)
        _prepare(header.format)
        return Image.open(source, formats=(header.format,))
    except MemoryError:
        raise
    except Exception as error:  # on a hostile header Pillow raises almost anything
        raise ImageError(
            "image_not_recognised", f"image has a {header.format} header that cannot be read: {error}"
        ) from error


def _open_jpeg(source: io.BytesIO, data: bytes, *, longer: bool) -> JpegFile:
    image = JpegFile(source)
    # All at once, which copies nothing: the decoder releases Python's lock, and would have to get it back after
    # each 64 KB. Other formats are read from behind their header, which would be a copy.
    image.decodermaxblock = len(data)
    if longer:
        escape = b"\0" if data.endswith(b"\xff") else b""  # so that it is no marker's half
        image.tail = escape + MORE_PIXELS + END_MARKER
    return image


def orientation_in(image: Image.Image, header: ImageHeader) -> int:
    """How the pixels of an open image lie, in EXIF's numbers; for AVIF the decoder finds it out."""
    if header.format == "AVIF":
        return orientation_of(image.info.get("exif", b""))
    return header.parsed.orientation


def load_pixels(image: Image.Image) -> None:
    """Decode. A BMP in which nothing is opaque has no transparency: its writer left the fourth byte empty."""
    image.load()
    if image.format == "BMP" and image.mode == "RGBA" and image.getextrema()[-1] == (0, 0):
        image.putalpha(255)


@functools.cache
def _prepare(name: FormatName) -> None:
    """Set up a decoder before its first image: one thread, as images are decoded side by side, and no prints."""
    match name:
        case "AVIF":
            AvifImagePlugin.DEFAULT_MAX_THREADS = 1
        case "HEIF":
            from pillow_heif import register_heif_opener

            register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
        case "TIFF":
            # libtiff prints a line for every strip that is damaged, and Pillow leaves that as it is.
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)
        case "JPEG" | "PNG" | "WEBP" | "GIF" | "BMP":
            pass
        case _:
            assert_never(name)


def _ignore_pillows_warnings() -> None:
    # Whether an image is accepted must not depend on the caller's filters, and Pillow's warnings add nothing to an
    # ImageError. `catch_warnings` would not do: it changes and restores the filters of all threads.
    ours = ("ignore", None, Warning, _PILLOWS_MODULES, 0)
    if list(warnings.filters[:1]) != [ours]:
        warnings.filterwarnings("ignore", module=_PILLOWS_MODULES.pattern)
