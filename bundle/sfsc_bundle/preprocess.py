"""Encoded image → uint8 [H, W, 3]. The only preprocessing: training, export and service all call it.

Version 2, step by step: header, with the caps on bytes and pixels checked before anything is decoded → pixels, a
JPEG at the smallest scale of its DCT (1, 1/2, 1/4 or 1/8) that leaves at least twice the wanted size on both sides
→ RGB, transparent pixels over white → resize to the manifest's size, bilinear, the aspect ratio not kept → turned
upright as the EXIF data says. The result depends on nothing but bytes and manifest. Of an animation the first
frame counts. Pillow's own warnings are ignored from the first call on.

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
from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import ImageLimits, open_header
from sfsc_bundle.image_formats import media_type
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.orientation import exif_orientation, place_in_file, swaps_sides, turn_upright, upright_size

__all__ = ["ImageLimits", "preprocess", "to_pixels"]

_AT_LEAST = 2
"""A JPEG is decoded at so many times the wanted size or more, so that the resize still averages over pixels."""


def preprocess(
    data: bytes, preprocessing: Preprocessing, limits: ImageLimits | None = None, crop: Crop | None = None
) -> npt.NDArray[np.uint8]:
    """Turn an encoded image, or the part of it in a crop, into the graph's input, uint8 [H, W, 3].

    Raises:
        ImageError: see its codes in `sfsc_bundle.errors`.
    """
    return to_pixels(open_header(data, limits or ImageLimits()), preprocessing, crop)


def to_pixels(image: Image.Image, preprocessing: Preprocessing, crop: Crop | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image whose header alone has been read, to uint8 [H, W, 3].

    Raises:
        ImageError: image_damaged, crop_outside.
    """
    size = (preprocessing.width, preprocessing.height)
    try:
        if crop is None:
            return np.array(_whole(image, size), dtype=np.uint8)
        crop.check(*_possible_sizes(image))
        return np.array(_part(image, size, crop), dtype=np.uint8)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data
        raise ImageError(
            "image_damaged", f"image has a {image.format} header but cannot be decoded: {error}"
        ) from error


def _whole(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    box = _load(image, size)
    orientation = exif_orientation(image)
    if swaps_sides(orientation):
        size = size[::-1]
    resized = _to_rgb(image)
    if resized.size != size:
        resized = resized.resize(size, Image.Resampling.BILINEAR, box)
    return turn_upright(resized, orientation)


def _part(image: Image.Image, size: tuple[int, int], crop: Crop) -> Image.Image:
    full = image.size
    sides = _possible_sizes(image)[0]
    box = _load(image, (math.ceil(size[0] * sides[0] / crop.w), math.ceil(size[1] * sides[1] / crop.h)))
    orientation = exif_orientation(image)
    upright = upright_size(full, orientation)
    crop.check(upright)
    scaled = box[2:] if box else full
    corners = [
        (x * scaled[0] / full[0], y * scaled[1] / full[1])
        for x, y in (place_in_file(corner, upright, orientation) for corner in crop.corners())
    ]
    left, top = (max(0, math.floor(min(side))) for side in zip(*corners, strict=True))
    right, bottom = (
        min(end, math.ceil(max(side))) for end, side in zip(image.size, zip(*corners, strict=True), strict=True)
    )
    part = _to_rgb(image.crop((left, top, right, bottom)))
    corners = [(x - left, y - top) for x, y in corners]
    if crop.rotation:
        return _sampled_upright(part, corners).resize(size, Image.Resampling.BILINEAR)
    return turn_upright(_resized_box(part, corners, upright_size(size, orientation)), orientation)


def _resized_box(part: Image.Image, corners: list[tuple[float, float]], size: tuple[int, int]) -> Image.Image:
    """The box between corners, which is not turned, at another size; nothing around it is looked at."""
    xs, ys = zip(*corners, strict=True)
    box = (max(0.0, min(xs)), max(0.0, min(ys)), min(part.width, max(xs)), min(part.height, max(ys)))
    return part.resize(size, Image.Resampling.BILINEAR, box)


def _sampled_upright(part: Image.Image, corners: list[tuple[float, float]]) -> Image.Image:
    """The turned box between corners, sampled at its own scale."""
    origin, along, _, down = corners
    width, height = (max(1, round(math.dist(origin, end))) for end in (along, down))
    to_part = (
        (along[0] - origin[0]) / width, (down[0] - origin[0]) / height, origin[0],
        (along[1] - origin[1]) / width, (down[1] - origin[1]) / height, origin[1],
    )  # fmt: skip
    return part.transform((width, height), Image.Transform.AFFINE, to_part, Image.Resampling.BILINEAR)


def _possible_sizes(image: Image.Image) -> list[tuple[int, int]]:
    """The size of the upright image before its pixels are decoded; both ways where a PNG may yet turn it."""
    if image.format == "PNG" and "exif" not in image.info:
        return [image.size, image.size[::-1]]
    return [upright_size(image.size, exif_orientation(image))]


def _load(image: Image.Image, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Decode; a JPEG, whose EXIF data stand before its pixels, no larger than the resize needs.

    Returns the part of the pixels that is the image: at a smaller scale a side that does not divide is rounded up,
    and its last row or column is only in part of the image.
    """
    found = None
    if media_type(image.format) == "image/jpeg":
        width, height = upright_size(size, exif_orientation(image))
        found = image.draft(None, (_AT_LEAST * width, _AT_LEAST * height))
    image.load()
    return None if found is None else found[1]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _grey16_to_rgb(image)
    if "A" in image.getbands() or "transparency" in image.info:
        over = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", over.size, "white")
        white.paste(over, mask=over)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it, and loses the transparent value.
    grey = np.clip(np.asarray(image).astype(np.int32), 0, 65535)
    grey[grey == image.info.get("transparency", -1)] = 65535
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
