"""Files that are not quite right and that browsers show."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sfsc_bundle.errors import ImageError
from sfsc_bundle.headers.jpeg import MAX_SCANS
from sfsc_bundle.image_formats import FormatName
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from tests.bundle.encoded_images import READ_FORMATS, encoded, pattern

SIZE = Preprocessing(height=32, width=32)
PHOTOGRAPH = pattern(640, 480)


def pixels(data: bytes) -> np.ndarray:
    return preprocess(data, SIZE)


@pytest.mark.parametrize("progressive", [False, True])
def test_what_lies_behind_a_jpeg_does_not_count(progressive: bool) -> None:
    """A motion photo: a video behind the image, in which the marker of a scan comes up by chance."""
    data = encoded("JPEG", PHOTOGRAPH, progressive=progressive)
    video = b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\x0c" * (2 * MAX_SCANS) + b"\xff\xd9"
    np.testing.assert_array_equal(pixels(data + video), pixels(data))


@pytest.mark.parametrize("name", READ_FORMATS)
@pytest.mark.parametrize("behind", [b"SEFH and so on", bytes(9), b"\r\n"], ids=["text", "zeros", "line"])
def test_what_lies_behind_an_image_of_any_format_does_not_count(name: FormatName, behind: bytes) -> None:
    data = encoded(name)
    np.testing.assert_array_equal(pixels(data + behind), pixels(data))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}], ids=str)
@pytest.mark.parametrize("behind", [b"", b"\xff", bytes(64)], ids=["nothing", "half a marker", "zeros"])
def test_a_jpeg_may_lack_its_end_marker(options: dict[str, object], behind: bytes) -> None:
    data = encoded("JPEG", PHOTOGRAPH, **options)
    assert data.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(pixels(data[:-2] + behind), pixels(data))


@pytest.mark.parametrize("size", [(64, 48), (640, 480), (2000, 1500)])
@pytest.mark.parametrize("lost", [0.5, 0.1, 0.03])
def test_a_jpeg_that_lacks_pixels_is_refused(size: tuple[int, int], lost: float) -> None:
    data = encoded("JPEG", pattern(*size))
    with pytest.raises(ImageError, match="ends before its last pixels") as caught:
        pixels(data[: -int(lost * len(data))])
    assert caught.value.code == "image_damaged"


def test_a_jpeg_that_lacks_any_pixel_at_all_is_refused() -> None:
    data = encoded("JPEG")
    for length in range(len(data) - 60, len(data) - 2):
        with pytest.raises(ImageError, match="ends before its last pixels"):
            pixels(data[:length])


def test_a_flat_jpeg_that_lacks_pixels_is_refused() -> None:
    """Missing pixels are filled with the last colour, which is that of all the others."""
    data = encoded("JPEG", Image.new("RGB", (640, 480), "red"))
    with pytest.raises(ImageError, match="ends before its last pixels"):
        pixels(data[: -len(data) // 4])


def bmp(alpha: np.ndarray) -> bytes:
    """A BMP of 32 bits a pixel, with a mask for alpha."""
    colours = np.asarray(PHOTOGRAPH)[:, :, ::-1]
    rows = np.dstack([colours, alpha])[::-1].tobytes()
    width, height = PHOTOGRAPH.size
    sizes = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 32, 3, len(rows), 2835, 2835, 0, 0)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = (sizes + masks).ljust(124, b"\0")
    return b"BM" + struct.pack("<IHHI", 138 + len(rows), 0, 0, 138) + header + rows


def test_a_bmp_in_which_nothing_is_opaque_is_opaque() -> None:
    alpha = np.zeros(PHOTOGRAPH.size[::-1], np.uint8)
    np.testing.assert_array_equal(pixels(bmp(alpha)), pixels(encoded("PNG", PHOTOGRAPH)))
    alpha[0, 0] = 255
    assert pixels(bmp(alpha)).min() > 200, "and where a single pixel is, the others are transparent: white"


def test_a_wrong_checksum_matters_in_a_critical_chunk_alone() -> None:
    whole = encoded("PNG", PHOTOGRAPH)
    text = struct.pack(">I", 4) + b"tEXt" + b"a\0bc" + bytes(4)
    density = struct.pack(">I", 9) + b"pHYs" + struct.pack(">IIB", 2835, 2835, 1) + bytes(4)
    np.testing.assert_array_equal(pixels(whole[:33] + text + density + whole[33:]), pixels(whole))
    for kind in (b"IHDR", b"IDAT"):
        at = whole.index(kind)
        (length,) = struct.unpack_from(">I", whole, at - 4)
        broken = bytearray(whole)
        broken[at + 4 + length] ^= 1
        with pytest.raises(ImageError, match=f"the checksum of a PNG's chunk {kind.decode()} is wrong") as caught:
            pixels(bytes(broken))
        assert caught.value.code == "image_damaged"


def test_transparency_with_a_wrong_checksum_is_ignored() -> None:
    whole = encoded("PNG", PHOTOGRAPH.quantize(16), transparency=3)
    at = whole.index(b"tRNS")
    (length,) = struct.unpack_from(">I", whole, at - 4)
    broken = bytearray(whole)
    broken[at + 4 + length] ^= 1
    without = whole[: at - 4] + whole[at + 8 + length :]
    np.testing.assert_array_equal(pixels(bytes(broken)), pixels(without))
    assert not np.array_equal(pixels(without), pixels(whole))


def test_an_unknown_critical_chunk_is_refused() -> None:
    whole = encoded("PNG", PHOTOGRAPH)
    chunk = struct.pack(">I", 0) + b"KEEP" + struct.pack(">I", zlib.crc32(b"KEEP"))
    with pytest.raises(ImageError, match="critical chunks of unknown kinds, found KEEP"):
        pixels(whole[:33] + chunk + whole[33:])
