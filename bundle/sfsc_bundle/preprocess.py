"""Bytes → uint8 [H, W, 3]. The only preprocessing there is: training, export and service all call it.

Invariants: the caps on bytes and pixels are checked before anything is decoded; the orientation in the EXIF
data is applied; transparent pixels lie over white; the result depends on nothing but bytes and manifest.
Of an animation the first frame counts. Pillow's own warnings are ignored from the first call on.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import ImageLimits, open_header
from sfsc_bundle.manifest import Preprocessing

__all__ = ["ImageLimits", "decode", "load", "preprocess", "squash"]

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


def preprocess(
    data: bytes, preprocessing: Preprocessing, limits: ImageLimits | None = None
) -> npt.NDArray[np.uint8]:
    """Turn an encoded image into the graph's input, uint8 [H, W, 3].

    Raises:
        ImageError: see its codes in `sfsc_bundle.errors`.
    """
    return squash(decode(data, limits), preprocessing)


def decode(data: bytes, limits: ImageLimits | None = None) -> Image.Image:
    """Decode to an upright RGB image. Raises ImageError."""
    return load(open_header(data, limits or ImageLimits()))


def load(image: Image.Image) -> Image.Image:
    """Decode an image of which `open_header` has read the header to an upright RGB one. Raises ImageError."""
    try:
        image.load()
        return _to_rgb(_upright(image))
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data
        raise ImageError(
            "image_damaged", f"image has a {image.format} header but cannot be decoded: {error}"
        ) from error


def squash(image: Image.Image, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Resize RGB to the manifest's height and width, the aspect ratio not kept: uint8 [H, W, 3]."""
    size = (preprocessing.width, preprocessing.height)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.array(image, dtype=np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # broken EXIF data is common in the wild, and the image is still good
        return image
    operation = _ORIENTATION.get(orientation) if isinstance(orientation, int) else None
    return image if operation is None else image.transpose(operation)


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
    # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it, and forgets the transparent value.
    grey = np.clip(np.asarray(image).astype(np.int32), 0, 65535)
    grey[grey == image.info.get("transparency", -1)] = 65535
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
