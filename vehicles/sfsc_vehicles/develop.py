"""The effects of weather, lens and sensor on an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from sfsc_vehicles.camera import Lens, Shot

__all__ = ["develop"]

_TINT = {"dusk": (1.06, 0.94, 0.98), "rain": (0.96, 0.99, 1.03)}
_LUMA: NDArray[np.float32] = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def develop(image: Image.Image, shot: Shot) -> NDArray[np.uint8]:
    """The image as the camera delivers it, uint8 [n, n, 3]: rain, blur, exposure, fog, colours, noise."""
    rng, lens, size = np.random.default_rng([shot.detail, 3]), shot.lens, image.width
    if shot.weather == "rain":
        _rain(image, rng)
    if lens.blur > 0:
        image = image.filter(ImageFilter.GaussianBlur(lens.blur * size / 96))
    pixels = np.asarray(image, dtype=np.float32)
    pixels = pixels * np.float32(np.clip((130 / pixels.mean()) ** 0.6, 0.8, 1.8))
    if shot.weather == "fog":
        pixels += (205 - pixels) * np.linspace(0.55, 0.22, size, dtype=np.float32)[:, None, None]
    pixels = _respond(pixels, lens) * np.array(_TINT.get(shot.weather, (1, 1, 1)), dtype=np.float32)
    if lens.noise > 0:
        pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(lens.noise)
        pixels *= _vignette(size)
    return (pixels + 0.5).clip(0, 255).astype(np.uint8)


def _respond(pixels: NDArray[np.float32], lens: Lens) -> NDArray[np.float32]:
    grey = (pixels @ _LUMA)[..., None]
    vivid = grey + (pixels - grey) * np.float32(lens.saturation)
    cast = np.array(lens.cast, dtype=np.float32)
    return np.asarray(((vivid - 118) * np.float32(lens.contrast) + 118) * cast, dtype=np.float32)


def _vignette(size: int) -> NDArray[np.float32]:
    off = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    return np.asarray(1 - np.float32(0.09) * (off[:, None] + off), dtype=np.float32)[..., None]


def _rain(image: Image.Image, rng: np.random.Generator) -> None:
    """Fine slanted streaks."""
    layer = Image.new("L", image.size)
    draw = ImageDraw.Draw(layer)
    for x, y, reach in (rng.random((45, 3)) * (1.1, 1, 0.07) + (0, -0.05, 0.04)) * image.width:
        draw.line((x, y, x - 0.25 * reach, y + reach), fill=70)
    image.paste((205, 210, 216), mask=layer)
