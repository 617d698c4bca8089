"""A crop against the same by hand with Pillow: upright, cut out, resized."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from sfsc_bundle.crop import Crop
from sfsc_bundle.decoder import open_image
from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import ImageLimits, read_header
from sfsc_bundle.image_formats import FormatName
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import image_to_pixels, preprocess
from tests.bundle.encoded_images import READ_FORMATS, encoded
from tests.bundle.golden import make_golden

SIZE = Preprocessing(height=40, width=24)
ORIENTATIONS = range(1, 9)
BOX = (20, 10, 50, 60)
WHOLE = (120, 90)


def scene(width: int, height: int) -> Image.Image:
    """Smooth and without symmetry, so that scales and encodings hardly matter but places do."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [
        np.sin(6 * columns / width) * np.cos(3 * rows / height),
        columns / width - rows / height,
        np.sin(5 * (columns / width) * (rows / height)),
    ]
    return Image.fromarray(np.rint(127 + 100 * np.stack(waves, axis=2)).astype(np.uint8))


def file_of(upright: Image.Image, orientation: int, format: str = "PNG") -> bytes:
    """A file whose pixels lie as `orientation` says."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if orientation == 1 else stored_as(upright, orientation)
    buffer = io.BytesIO()
    stored.save(buffer, format, exif=exif, quality=98, lossless=True)
    return buffer.getvalue()


def stored_as(upright: Image.Image, orientation: int) -> Image.Image:
    for operation in Image.Transpose:
        stored = upright.transpose(operation)
        stored.getexif()[0x0112] = orientation
        if ImageOps.exif_transpose(stored).tobytes() == upright.tobytes():
            return stored
    raise AssertionError(orientation)


def by_hand(upright: Image.Image, box: tuple[int, int, int, int], rotation: float = 0.0) -> np.ndarray:
    x, y, w, h = box
    if rotation:
        upright = upright.rotate(rotation, Image.Resampling.BILINEAR, center=(x + w / 2, y + h / 2))
    part = upright.crop((x, y, x + w, y + h))
    return np.asarray(part.resize((SIZE.width, SIZE.height), Image.Resampling.BILINEAR))


def furthest(found: np.ndarray, expected: np.ndarray) -> int:
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    return int(np.abs(found.astype(int) - expected.astype(int)).max())


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("rotation", [0, 30, -90, 180, 200.5])
def test_a_crop_is_what_pillow_makes_of_it_by_hand(orientation: int, rotation: float) -> None:
    upright = scene(*WHOLE)
    found = preprocess(file_of(upright, orientation), SIZE, crop=Crop(*BOX, rotation))
    assert furthest(found, by_hand(upright, BOX, rotation)) <= 1
    assert furthest(found, by_hand(upright, (21, 12, *BOX[2:]), rotation)) > 2, "another place looks different"


@pytest.mark.parametrize("format", READ_FORMATS)
def test_every_format_is_cropped(format: FormatName) -> None:
    upright = scene(*WHOLE)
    data = encoded(format, upright)
    if format == "GIF":  # has 256 colours
        upright = Image.open(io.BytesIO(data)).convert("RGB")
    found = preprocess(data, SIZE, crop=Crop(*BOX))
    assert furthest(found, by_hand(upright, BOX)) <= 4


def test_the_golden_image_cut_out() -> None:
    """No smooth scene: nothing around the box may leak into it."""
    data, upright = make_golden.large_jpeg(6)
    (y, x), (h, w) = (64, 32), (128, 96)
    found = preprocess(data, SIZE, crop=Crop(x, y, w, h))
    assert furthest(found, make_golden.resized(upright[y : y + h, x : x + w], (SIZE.height, SIZE.width))) <= 3


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("rotation", [0, 20])
@pytest.mark.parametrize("share", [1, 2, 5, 10])
def test_a_large_jpeg_is_decoded_at_the_smallest_scale_that_leaves_twice_the_size_in_the_crop(
    orientation: int, rotation: float, share: int
) -> None:
    upright = scene(1501, 1207)
    w, h = 1000 // share, 800 // share
    box = (250, 203, w, h)
    header = read_header(file_of(upright, orientation, "JPEG"), ImageLimits())
    image = open_image(header)
    found = image_to_pixels(image, SIZE, header.parsed.orientation, Crop(*box, rotation))
    assert furthest(found, by_hand(upright, box, rotation)) <= 4
    scale = min(upright.width / max(image.size), 8)
    at_most = min(w / (2 * SIZE.width), h / (2 * SIZE.height))
    assert scale <= max(1.01, at_most), "at least twice the wanted size"
    assert 2 * scale > min(8, at_most) * 0.99, "and no more than needed"


def test_a_transparent_palette_and_16_bits_are_cropped_as_they_are_converted() -> None:
    grey = np.linspace(0, 65535, 120 * 90).reshape(90, 120).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    whole = Image.fromarray(((grey.astype(int) + 128) // 257).astype(np.uint8)).convert("RGB")
    assert furthest(preprocess(buffer.getvalue(), SIZE, crop=Crop(*BOX)), by_hand(whole, BOX)) <= 1
    palette = scene(*WHOLE).quantize(16)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=3)
    over = Image.open(io.BytesIO(buffer.getvalue())).convert("RGBA")
    white = Image.new("RGB", over.size, "white")
    white.paste(over, mask=over)
    assert furthest(preprocess(buffer.getvalue(), SIZE, crop=Crop(*BOX)), by_hand(white, BOX)) <= 1


def test_the_whole_image_as_a_crop_is_the_whole_image() -> None:
    data = file_of(scene(*WHOLE), 6)
    np.testing.assert_array_equal(preprocess(data, SIZE, crop=Crop(0, 0, *WHOLE)), preprocess(data, SIZE))


OUTSIDE = [
    Crop(-1, 0, 10, 10),
    Crop(0, 0, 121, 10),
    Crop(0, 81, 10, 10),
    Crop(0, 0, 120, 90, 1),
    Crop(1e9, 0, 5, 5),
]


@pytest.mark.parametrize("crop", OUTSIDE, ids=str)
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_crop_outside_is_refused_before_pixels_are_decoded(crop: Crop, format: str) -> None:
    damaged = bytearray(file_of(scene(*WHOLE), 8, format))
    del damaged[-len(damaged) // 2 :]
    with pytest.raises(ImageError, match="upright image of 120×90 pixels, found corners from") as caught:
        preprocess(bytes(damaged), SIZE, crop=crop)
    assert caught.value.code == "crop_outside"


def test_a_png_may_say_at_its_end_that_it_is_turned() -> None:
    upright = scene(*WHOLE)
    buffer = io.BytesIO()
    stored_as(upright, 6).save(buffer, "PNG", exif=b"")
    exif = Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content + struct.pack(">I", zlib.crc32(b"eXIf" + content))
    data = buffer.getvalue()
    late = data[:-12] + chunk + data[-12:]
    assert furthest(preprocess(late, SIZE, crop=Crop(*BOX)), by_hand(upright, BOX)) <= 1
    with pytest.raises(ImageError, match="120×90"):
        preprocess(late, SIZE, crop=Crop(0, 0, 90, 120))
    with pytest.raises(ImageError, match="crop"):
        preprocess(data[:80], SIZE, crop=Crop(0, 0, 121, 121))


@pytest.mark.parametrize(
    "values", [(0, 0, 0, 5), (0, 0, 5, 0.9), (float("nan"), 0, 5, 5), (0, 0, 5, 5, float("inf"))]
)
def test_a_crop_is_finite_and_has_sides(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"^(w|h|x|rotation): must be"):
        Crop(*values)
