"""Bands change nothing: images of every mode, converted and resized in bands, are those that are not."""

import numpy as np
import pytest
from PIL import Image

from sfsc_bundle import rgb
from sfsc_bundle.rgb import resized_rgb, to_rgb
from tests.bundle.encoded_images import pattern

MODES = {
    "RGB": pattern(97, 61),
    "RGBA": pattern(97, 61, 4),
    "LA": pattern(97, 61, 4).convert("LA"),
    "L": pattern(97, 61, 1),
    "1": pattern(97, 61, 1).convert("1"),
    "P": pattern(97, 61).quantize(16),
    "CMYK": pattern(97, 61).convert("CMYK"),
    "I;16": Image.fromarray(np.asarray(pattern(97, 61, 1)).astype(np.uint16) * 257),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("size", [(20, 20), (97, 20), (20, 61), (97, 61), (200, 150), (10, 90)])
@pytest.mark.parametrize("box", [None, (3.5, 2.25, 50.0, 60.5)])
def test_bands_change_nothing(
    mode: str, turned: bool, size: tuple[int, int], box: rgb.Box | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = MODES[mode].transpose(Image.Transpose.ROTATE_90) if turned else MODES[mode]
    assert image.mode == mode
    whole = np.asarray(to_rgb(image).resize(size, Image.Resampling.BILINEAR, box))
    for pixels in (1, 700, 5000):
        monkeypatch.setattr(rgb, "BAND_PIXELS", pixels)
        np.testing.assert_array_equal(np.asarray(resized_rgb(image, size, box)), whole)


def test_a_transparent_colour_is_white_in_every_band(monkeypatch: pytest.MonkeyPatch) -> None:
    image = MODES["P"].copy()
    image.info["transparency"] = 3
    whole = to_rgb(image).resize((20, 20), Image.Resampling.BILINEAR)
    monkeypatch.setattr(rgb, "BAND_PIXELS", 97)
    np.testing.assert_array_equal(np.asarray(resized_rgb(image, (20, 20))), np.asarray(whole))
