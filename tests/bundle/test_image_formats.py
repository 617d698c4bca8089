"""Every row of the table of image formats, where the bundle's package uses it."""

import io

import numpy as np
import pytest
from PIL import Image

from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import ImageLimits, open_header
from sfsc_bundle.image_formats import FORMATS, IMAGE_FORMATS, SUFFIXES, ImageFormat, media_type
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess

SIZE = Preprocessing(height=9, width=12)


def encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 9), "red").save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize("row", IMAGE_FORMATS, ids=lambda row: row.name)
def test_a_format_is_opened_decoded_and_has_a_media_type(row: ImageFormat) -> None:
    data = encoded(row.name)
    assert media_type(open_header(data, ImageLimits()).format) == row.media_type
    pixels = preprocess(data, SIZE)
    assert pixels.shape == (9, 12, 3)
    assert np.abs(pixels - np.array([255.0, 0.0, 0.0])).max() <= 2


@pytest.mark.parametrize("row", IMAGE_FORMATS, ids=lambda row: row.name)
def test_a_formats_names_are_those_of_pillow(row: ImageFormat) -> None:
    Image.init()
    assert Image.MIME[row.name] == row.media_type
    for suffix in row.suffixes:
        assert Image.EXTENSION[suffix] == row.name
    for variant in row.variants:
        assert media_type(variant) == row.media_type


def test_no_name_stands_in_two_rows() -> None:
    assert len(set(FORMATS)) == len(FORMATS) == len({row.media_type for row in IMAGE_FORMATS})
    assert len(set(SUFFIXES)) == len(SUFFIXES)


def test_other_formats_are_refused_although_pillow_reads_them() -> None:
    with pytest.raises(ImageError) as caught:
        preprocess(encoded("TIFF"), SIZE)
    assert caught.value.code == "image_not_recognised"
    with pytest.raises(KeyError):
        media_type("TIFF")
    with pytest.raises(KeyError):
        media_type(None)
