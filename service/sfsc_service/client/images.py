"""Images as a caller may have them: encoded bytes, the path of a file, or an image of Pillow's."""

import base64
import io
import os
from typing import Any, Protocol

__all__ = ["ImageSource", "as_base64", "encoded"]

PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


class PillowImage(Protocol):
    """What is needed of a `PIL.Image.Image`, so that Pillow need not be imported."""

    @property
    def mode(self) -> str: ...

    def save(self, fp: Any, format: str | None = None, **options: Any) -> None: ...

    def convert(self, mode: str) -> Any: ...

    def getexif(self) -> Any: ...


ImageSource = bytes | str | os.PathLike[str] | PillowImage
"""Text is the path of a file."""


def encoded(image: ImageSource) -> bytes:
    """The bytes of an encoded image; one of Pillow's becomes a PNG that keeps its EXIF orientation.

    Raises:
        OSError: a file cannot be read.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        with open(image, "rb") as file:
            return file.read()
    buffer = io.BytesIO()
    drawn = image if image.mode in PNG_MODES else image.convert("RGB")
    drawn.save(buffer, "PNG", exif=image.getexif(), compress_level=1)
    return buffer.getvalue()


def as_base64(data: bytes) -> str:
    """Bytes as JSON can carry them."""
    return base64.b64encode(data).decode("ascii")
