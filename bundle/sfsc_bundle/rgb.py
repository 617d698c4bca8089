"""Pixels of any kind → RGB at another size, without a second copy of the whole image.

Pillow resizes every channel by itself. A large image that is not RGB yet is converted a band at a time, and of the
bands one channel at a time is kept and resized, which gives the very same result.
"""

import numpy as np
from PIL import Image

__all__ = ["BAND_PIXELS", "resized_rgb", "to_rgb"]

BAND_PIXELS = 2**18
"""Pixels that are converted at a time."""

Box = tuple[float, float, float, float]


def resized_rgb(image: Image.Image, size: tuple[int, int], box: Box | None = None) -> Image.Image:
    """The box of an image (all of it where there is none), as RGB, resized to (width, height), bilinear."""
    if image.mode in ("RGB", "L") and "transparency" not in image.info:
        return to_rgb(_resized(image, size, box))
    if image.width * image.height <= BAND_PIXELS:
        return _resized(to_rgb(image), size, box)
    return Image.merge("RGB", [_resized(_channel(image, channel), size, box) for channel in "RGB"])


def _channel(image: Image.Image, channel: str) -> Image.Image:
    """A channel of the image as RGB."""
    found = Image.new("L", image.size)
    rows = max(1, BAND_PIXELS // image.width)
    for start in range(0, image.height, rows):
        band = image.crop((0, start, image.width, min(start + rows, image.height)))
        found.paste(to_rgb(band).getchannel(channel), (0, start))
    return found


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as RGB, what is transparent over white."""
    if image.mode.startswith("I"):
        return _grey16_to_rgb(image)
    if "A" in image.getbands() or "transparency" in image.info:
        over = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", over.size, "white")
        white.paste(over, mask=over)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _resized(image: Image.Image, size: tuple[int, int], box: Box | None) -> Image.Image:
    if image.size == size and box in (None, (0, 0, *size)):
        return image
    return image.resize(size, Image.Resampling.BILINEAR, box)


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it, and loses the transparent value.
    grey = np.clip(np.asarray(image).astype(np.int32), 0, 65535)
    grey[grey == image.info.get("transparency", -1)] = 65535
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
