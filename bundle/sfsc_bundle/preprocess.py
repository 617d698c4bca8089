"""Encoded image → uint8 [H, W, 3]. The only preprocessing: training, export and service all call it.

Version 2, step by step: header, with all caps checked before a decoder is called → pixels, a JPEG at the smallest
scale of its DCT (1, 1/2, 1/4 or 1/8) that leaves at least twice the wanted size on both sides → RGB, transparent
pixels over white → resize to the manifest's size, bilinear, the aspect ratio not kept → turned upright as the EXIF
data says. The result depends on nothing but bytes and manifest. Of several frames or pages the first counts.
Pillow's own warnings are ignored from the first call on.

With a crop, its part of the image takes the place of the whole: the scale leaves twice the wanted size within it,
and a turned box is sampled bilinearly, upright, before the resize. Bounds are checked before pixels are decoded.

A photograph of 12 megapixels is never held whole: at 1/8 it takes a sixty-fourth of the memory, and turning it
upright after the resize copies no more than the small result.
"""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfsc_bundle.crop import Crop
from sfsc_bundle.decoder import JpegFile, load_pixels, open_image, orientation_in
from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import ImageHeader, ImageLimits, read_header
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.orientation import place_in_file, swaps_sides, turn_upright, upright_size
from sfsc_bundle.rgb import BAND_PIXELS, resized_rgb, to_rgb

__all__ = ["ImageLimits", "decode_bytes", "image_to_pixels", "preprocess", "to_pixels"]

_AT_LEAST = 2
"""A JPEG is decoded at so many times the wanted size or more, so that the resize still averages over pixels."""
_SCALES = (8, 4, 2, 1)
_ROTATED_BYTES = 12
"""Memory that a turned box takes per pixel: as RGB, over white, and sampled upright."""

_OVERHEAD_BYTES = 2**18
"""Buffers of a decoder, which do not depend on the image."""

Pixels = npt.NDArray[np.uint8]


def preprocess(
    data: bytes, preprocessing: Preprocessing, limits: ImageLimits | None = None, crop: Crop | None = None
) -> Pixels:
    """Turn an encoded image, or the part of it in a crop, into the graph's input, uint8 [H, W, 3].

    Raises:
        ImageError: see its codes in `sfsc_bundle.errors`.
        MemoryError: there is not enough memory.
    """
    return to_pixels(read_header(data, limits or ImageLimits()), preprocessing, crop)


def to_pixels(header: ImageHeader, preprocessing: Preprocessing, crop: Crop | None = None) -> Pixels:
    """Decode an image whose header has been read, to uint8 [H, W, 3].

    A JPEG may lack its end marker, and nothing but it: its pixels must not depend on what follows its last byte.

    Raises:
        ImageError: image_not_recognised, image_damaged, crop_outside.
        MemoryError: there is not enough memory.
    """
    image = open_image(header)
    orientation = orientation_in(image, header)
    pixels = image_to_pixels(image, preprocessing, orientation, crop)
    ended_early = isinstance(image, JpegFile) and image.ended_early
    del image  # before it is decoded once more
    if ended_early:
        longer = open_image(header, longer=True)
        other = image_to_pixels(longer, preprocessing, orientation, crop)
        if not np.array_equal(pixels, other):
            raise ImageError("image_damaged", "image is a JPEG that ends before its last pixels")
    return pixels


def image_to_pixels(
    image: Image.Image, preprocessing: Preprocessing, orientation: int = 1, crop: Crop | None = None
) -> Pixels:
    """Decode an image that Pillow has opened, to uint8 [H, W, 3].

    Raises:
        ImageError: image_damaged, crop_outside.
        MemoryError: there is not enough memory.
    """
    size = (preprocessing.width, preprocessing.height)
    if crop is not None:
        crop.check(upright_size(image.size, orientation))
    try:
        if crop is None:
            return np.array(_whole(image, size, orientation), dtype=np.uint8)
        return np.array(_part(image, size, orientation, crop), dtype=np.uint8)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data
        raise ImageError(
            "image_damaged", f"image has a {image.format} header but cannot be decoded: {error}"
        ) from error


def decode_bytes(header: ImageHeader, preprocessing: Preprocessing, crop: Crop | None = None) -> int:
    """The bytes of memory that `to_pixels` takes at its peak: an upper bound, measured for all kinds of pixels."""
    parsed = header.parsed
    size = (preprocessing.width, preprocessing.height)
    full = (parsed.width, parsed.height)
    scale = 1
    if header.format == "JPEG":
        wanted = _wanted_in_file(size, upright_size(full, parsed.orientation), parsed.orientation, crop)
        room = min(side // least for side, least in zip(full, wanted, strict=True))
        scale = next(one for one in _SCALES if one <= max(1, room))
    decoded = header.pixels / scale**2
    found = decoded * parsed.pixel_bytes + header.pixels * parsed.coefficient_bytes + len(parsed.data)
    if crop is not None:
        part = min(decoded, (abs(crop.w) + abs(crop.h)) ** 2 if crop.rotation else crop.w * crop.h)
        found += part * (4 + (_ROTATED_BYTES if crop.rotation else 0))
    rows = 4 * max(size) * max(full) / scale
    return math.ceil(found + rows + _ROTATED_BYTES * min(decoded, BAND_PIXELS)) + _OVERHEAD_BYTES


def _whole(image: Image.Image, size: tuple[int, int], orientation: int) -> Image.Image:
    box = _load(image, _wanted_in_file(size, image.size, orientation, None))
    if swaps_sides(orientation):
        size = size[::-1]
    return turn_upright(resized_rgb(image, size, box), orientation)


def _part(image: Image.Image, size: tuple[int, int], orientation: int, crop: Crop) -> Image.Image:
    full = image.size
    upright = upright_size(full, orientation)
    box = _load(image, _wanted_in_file(size, upright, orientation, crop))
    scaled = box[2:] if box else full
    corners = [
        (x * scaled[0] / full[0], y * scaled[1] / full[1])
        for x, y in (place_in_file(corner, upright, orientation) for corner in crop.corners())
    ]
    left, top = (max(0, math.floor(min(side))) for side in zip(*corners, strict=True))
    right, bottom = (
        min(end, math.ceil(max(side))) for end, side in zip(image.size, zip(*corners, strict=True), strict=True)
    )
    part = image.crop((left, top, right, bottom))
    corners = [(x - left, y - top) for x, y in corners]
    if crop.rotation:
        return _sampled_upright(to_rgb(part), corners).resize(size, Image.Resampling.BILINEAR)
    return turn_upright(_resized_box(part, corners, upright_size(size, orientation)), orientation)


def _wanted_in_file(
    size: tuple[int, int], upright: tuple[int, int], orientation: int, crop: Crop | None
) -> tuple[int, int]:
    """The least size at which a file's pixels must be decoded, for this size of the result."""
    if crop is not None:
        size = (math.ceil(size[0] * upright[0] / crop.w), math.ceil(size[1] * upright[1] / crop.h))
    width, height = upright_size(size, orientation)
    return _AT_LEAST * width, _AT_LEAST * height


def _resized_box(part: Image.Image, corners: list[tuple[float, float]], size: tuple[int, int]) -> Image.Image:
    """The box between corners, which is not turned, at another size; nothing around it is looked at."""
    xs, ys = zip(*corners, strict=True)
    box = (max(0.0, min(xs)), max(0.0, min(ys)), min(part.width, max(xs)), min(part.height, max(ys)))
    return resized_rgb(part, size, box)


def _sampled_upright(part: Image.Image, corners: list[tuple[float, float]]) -> Image.Image:
    """The turned box between corners, sampled at its own scale."""
    origin, along, _, down = corners
    width, height = (max(1, round(math.dist(origin, end))) for end in (along, down))
    to_part = (
        (along[0] - origin[0]) / width, (down[0] - origin[0]) / height, origin[0],
        (along[1] - origin[1]) / width, (down[1] - origin[1]) / height, origin[1],
    )  # fmt: skip
    return part.transform((width, height), Image.Transform.AFFINE, to_part, Image.Resampling.BILINEAR)


def _load(image: Image.Image, wanted: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Decode; a JPEG no larger than wanted, if its scales allow.

    Returns the part of the pixels that is the image: at a smaller scale a side that does not divide is rounded up,
    and its last row or column is only in part of the image.
    """
    found = image.draft(None, wanted) if image.format in ("JPEG", "MPO") else None
    load_pixels(image)
    return None if found is None else found[1]
