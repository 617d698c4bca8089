"""The image formats that are accepted: the one table that names them.

A format that is added here is decoded, stored, served with its media type, found in folders and listed in the
API's document. Pillow must be able to decode it. The tests of every one of these places run over the rows.
"""

from dataclasses import dataclass

__all__ = ["FORMATS", "IMAGE_FORMATS", "SUFFIXES", "ImageFormat", "media_type"]


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """`name` is Pillow's; `variants` are other names under which Pillow may open a file of this format."""

    name: str
    media_type: str
    suffixes: tuple[str, ...]
    variants: tuple[str, ...] = ()


IMAGE_FORMATS = (
    # MPO: a JPEG with further images behind it, which browsers show as a JPEG.
    ImageFormat("JPEG", "image/jpeg", (".jpg", ".jpeg"), variants=("MPO",)),
    ImageFormat("PNG", "image/png", (".png",)),
    ImageFormat("WEBP", "image/webp", (".webp",)),
    ImageFormat("GIF", "image/gif", (".gif",)),
    ImageFormat("BMP", "image/bmp", (".bmp",)),
)
FORMATS = tuple(one.name for one in IMAGE_FORMATS)
SUFFIXES = tuple(suffix for one in IMAGE_FORMATS for suffix in one.suffixes)

_MEDIA_TYPES = {name: one.media_type for one in IMAGE_FORMATS for name in (one.name, *one.variants)}


def media_type(name: str | None) -> str:
    """The media type of an image that Pillow opened under this name. Raises KeyError for any other."""
    return _MEDIA_TYPES[name or ""]
