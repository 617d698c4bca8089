"""Encoded image → uint8 [H, W, 3]. The only preprocessing: training, export and service all call it.

Version 2, step by step: header, with the caps on bytes and pixels checked before anything is decoded → pixels, a
JPEG at the smallest scale of its DCT (1, 1/2, 1/4 or 1/8) that leaves at least twice the wanted size on both sides
→ RGB, transparent pixels over white → resize to the manifest's size, bilinear, the aspect ratio not kept → turned
upright as the EXIF data says. The result depends on nothing but bytes and manifest. Of an animation the first
frame counts. Pillow's own warnings are ignored from the first call on.

A photograph of 12 megapixels is never held whole: at 1/8 it takes a sixty-fourth of the memory, and turning it
upright after the resize copies no more than the small result.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import ImageLimits, open_header
from sfsc_bundle.image_formats import media_type
from sfsc_bundle.manifest import Preprocessing

__all__ = ["ImageLimits", "preprocess", "to_pixels"]

_ORIENTATION_TAG = 0x0112
_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAP_SIDES = (5, 6, 7, 8)
_AT_LEAST = 2
"""A JPEG is decoded at so many times the wanted size or more, so that the resize still averages over pixels."""


def preprocess(
    data: bytes, preprocessing: Preprocessing, limits: ImageLimits | None = None
) -> npt.NDArray[np.uint8]:
    """Turn an encoded image into the graph's input, uint8 [H, W, 3].

    Raises:
        ImageError: see its codes in `sfsc_bundle.errors`.
    """
    return to_pixels(open_header(data, limits or ImageLimits()), preprocessing)


def to_pixels(image: Image.Image, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Decode an image whose header alone has been read, to uint8 [H, W, 3]. Raises ImageError: image_damaged."""
    size = (preprocessing.width, preprocessing.height)
    try:
        box = _load(image, size)
        orientation = _orientation(image)
        if orientation in _SWAP_SIDES:
            size = size[::-1]
        resized = _to_rgb(image)
        if resized.size != size:
            resized = resized.resize(size, Image.Resampling.BILINEAR, box)
        operation = _ORIENTATION.get(orientation)
        return np.array(resized if operation is None else resized.transpose(operation), dtype=np.uint8)
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data
        raise ImageError(
            "image_damaged", f"image has a {image.format} header but cannot be decoded: {error}"
        ) from error


def _load(image: Image.Image, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Decode; a JPEG, whose EXIF data stand before its pixels, no larger than the resize needs.

    Returns the part of the pixels that is the image: at a smaller scale a side that does not divide is rounded up,
    and its last row or column is only in part of the image.
    """
    found = None
    if media_type(image.format) == "image/jpeg":
        width, height = size[::-1] if _orientation(image) in _SWAP_SIDES else size
        found = image.draft(None, (_AT_LEAST * width, _AT_LEAST * height))
    image.load()
    return None if found is None else found[1]


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # broken EXIF data is common in the wild, and the image is still good
        return 1
    return orientation if isinstance(orientation, int) else 1


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
