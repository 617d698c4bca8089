"""What a header says, in every format the same."""

from dataclasses import dataclass

from sfsc_bundle.errors import ImageError

__all__ = ["ParsedHeader", "cap_exceeded", "damaged", "not_recognised"]


@dataclass(frozen=True, slots=True)
class ParsedHeader:
    """The header of one encoded image.

    `width` and `height` are those of the file's pixels, before `orientation` (EXIF's, 1 to 8) turns them upright.
    `data` is what the decoder gets. Decoding takes `pixel_bytes` of memory per decoded pixel, and
    `coefficient_bytes` per pixel of the image at whatever scale it is decoded.
    """

    width: int
    height: int
    data: bytes
    pixel_bytes: float
    orientation: int = 1
    coefficient_bytes: float = 0.0
    scans: int = 1


def not_recognised(found: str) -> ImageError:
    """The refusal of an image whose encoding is not accepted."""
    return ImageError("image_not_recognised", f"image {found}")


def damaged(found: str) -> ImageError:
    """The refusal of an image whose parts contradict each other."""
    return ImageError("image_damaged", f"image is damaged: {found}")


def cap_exceeded(owner: str, cap: int, of: str, found: int | None = None) -> ImageError:
    """The refusal of a header that is longer or has more parts than any encoder writes."""
    count = f"found {found}" if found is not None else "found more"
    return ImageError("image_damaged", f"{owner} must have at most {cap} {of}, {count}")
