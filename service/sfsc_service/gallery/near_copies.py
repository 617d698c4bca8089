"""Near copies of an image, as queries that have one right answer where nobody knows the identities."""

import io
import random

from PIL import Image, ImageEnhance

__all__ = ["NEAR_COPY", "near_copy"]

NEAR_COPY = "a part of 70 to 95 % of each side, brightness and contrast × 0.75 to 1.25, JPEG of quality 40 to 80"
PARTS, LIGHT, QUALITY = (0.7, 0.95), (0.75, 1.25), (40, 80)


def near_copy(jpeg: bytes, seed: str) -> bytes:
    """Another JPEG of the same thing, see NEAR_COPY; `seed`: equal ones give equal copies."""
    drawn = random.Random(seed)
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as opened:
        image = opened.convert("RGB")
    width, height = (max(1, round(side * drawn.uniform(*PARTS))) for side in image.size)
    left, top = drawn.randint(0, image.width - width), drawn.randint(0, image.height - height)
    image = image.crop((left, top, left + width, top + height))
    image = ImageEnhance.Brightness(image).enhance(drawn.uniform(*LIGHT))
    image = ImageEnhance.Contrast(image).enhance(drawn.uniform(*LIGHT))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=drawn.randint(*QUALITY))
    return content.getvalue()
