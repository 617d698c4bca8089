"""Every row of the table of image formats, where the bundle's package uses it."""

import io

import numpy as np
import pytest
from PIL import Image

from sfsc_bundle.decoder import open_image
from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import ImageLimits, read_header
from sfsc_bundle.image_formats import FORMATS, IMAGE_FORMATS, SUFFIXES, FormatName, ImageFormat, media_type
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from tests.bundle.encoded_images import READ_FORMATS, encoded

SIZE = Preprocessing(height=9, width=12)


@pytest.mark.parametrize("format", READ_FORMATS)
def test_a_format_is_read_and_decoded(format: FormatName) -> None:
    data = encoded(format, Image.new("RGB", (12, 9), "red"))
    assert read_header(data, ImageLimits()).format == format
    pixels = preprocess(data, SIZE)
    assert pixels.shape == (9, 12, 3)
    assert np.abs(pixels - np.array([255.0, 0.0, 0.0])).max() <= 2


@pytest.mark.parametrize("format", READ_FORMATS)
def test_a_formats_names_are_those_of_pillow(format: FormatName) -> None:
    row = next(one for one in IMAGE_FORMATS if one.name == format)
    Image.init()
    open_image(read_header(encoded(format), ImageLimits()))  # registers a decoder that is not Pillow's own
    assert Image.MIME[row.name] == row.media_type == media_type(row.name)
    for suffix in row.suffixes:
        assert Image.EXTENSION[suffix] == row.name


def test_no_name_stands_in_two_rows() -> None:
    assert len(set(FORMATS)) == len(FORMATS) == len({row.media_type for row in IMAGE_FORMATS})
    assert len(set(SUFFIXES)) == len(SUFFIXES)


def test_other_formats_are_refused_although_pillow_reads_them() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 9), "red").save(buffer, "PPM")
    with pytest.raises(ImageError) as caught:
        preprocess(buffer.getvalue(), SIZE)
    assert caught.value.code == "image_not_recognised"


@pytest.mark.parametrize("row", [row for row in IMAGE_FORMATS if row.decoder], ids=lambda row: row.name)
def test_a_format_whose_decoder_is_missing_is_refused_with_its_name(
    row: ImageFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfsc_bundle.header.available_formats", lambda: frozenset(FORMATS) - {row.name})
    starts = {"TIFF": b"II*\0", "HEIF": b"\0\0\0\x18ftypheic", "AVIF": b"\0\0\0\x18ftypavif"}
    with pytest.raises(ImageError, match=f"found {row.name}, which needs {row.decoder}") as caught:
        read_header(starts[row.name].ljust(40, b"\0"), ImageLimits(formats=frozenset({"JPEG"})))
    assert caught.value.code == "image_not_recognised"
