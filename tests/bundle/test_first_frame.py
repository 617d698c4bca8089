"""Of several frames or pages the first counts; EXIF data, or what a format has instead, turn the image upright."""

import io

import numpy as np
import pytest
from PIL import Image

from sfsc_bundle.header import ImageLimits, read_header
from sfsc_bundle.image_formats import FormatName
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from tests.bundle.encoded_images import READ_FORMATS, encoded, pattern

SIZE = Preprocessing(height=32, width=48)
CLOSE = 8
"""By how much pixels may differ in the mean where a format has losses; another image differs by 20 and more."""


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found.astype(int) - expected.astype(int)).mean())


@pytest.mark.parametrize("format", [one for one in READ_FORMATS if one.values[0] not in ("JPEG", "BMP")])
def test_the_first_of_several_frames_counts(format: FormatName) -> None:
    first, second = pattern(128, 64), pattern(128, 64).rotate(180)
    expected = preprocess(encoded("PNG", first.quantize(64) if format == "GIF" else first), SIZE)
    data = encoded(format, first.quantize(64) if format == "GIF" else first, save_all=True, append_images=[second])
    assert distance(preprocess(data, SIZE), expected) < CLOSE
    assert distance(preprocess(encoded("PNG", second), SIZE), expected) > 20, "the second looks different"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", [one for one in READ_FORMATS if one.values[0] not in ("GIF", "BMP")])
def test_an_image_is_turned_upright(format: FormatName, orientation: int) -> None:
    stored = pattern(128, 64)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(format, stored, exif=exif.tobytes())
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    upright = stored.transpose(Image.Transpose(turned[orientation])) if orientation > 1 else stored
    found, expected = preprocess(data, SIZE), preprocess(encoded("PNG", upright), SIZE)
    assert distance(found, expected) < CLOSE
    others = [stored, *(stored.transpose(one) for one in Image.Transpose)]
    assert sum(distance(found, preprocess(encoded("PNG", other), SIZE)) < CLOSE for other in others) == 1


def test_a_png_says_in_xmp_or_as_imagemagick_does_how_it_is_turned() -> None:
    from PIL.PngImagePlugin import PngInfo

    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes()
    digits = raw.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    ways = []
    for zipped in (False, True):
        texts = PngInfo()
        texts.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{lines}\n", zip=zipped)
        ways.append(texts)
        texts = PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=zipped)
        ways.append(texts)
    for texts in ways:
        buffer = io.BytesIO()
        pattern().save(buffer, "PNG", pnginfo=texts)
        assert read_header(buffer.getvalue(), ImageLimits()).parsed.orientation == 6
