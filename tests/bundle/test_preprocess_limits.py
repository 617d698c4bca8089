"""Caps and refusals: the size is judged from the header, and nothing but an ImageError ever comes out."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from sfsc_bundle.decoder import JpegFile
from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import MAX_SIDE
from sfsc_bundle.headers.jpeg import MAX_SCANS
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import ImageLimits, preprocess
from tests.bundle.golden.make_golden import chunk

GOLDEN = Path(__file__).parent / "golden"
SMALL = Preprocessing(height=16, width=16)


def blank_png(width: int, height: int) -> bytes:
    """A valid all-black 1-bit PNG, compressed a thousandfold."""
    packer = zlib.compressobj(1)
    row = b"\0" * (1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row * min(100, height - at)) for at in range(0, height, 100))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", packed + packer.flush()) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def noise(kind: str, size: tuple[int, int] = (64, 64), **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The formats of the images whose pixels were asked for."""
    calls: list[str] = []
    original = ImageFile.ImageFile.load

    def load(image: ImageFile.ImageFile) -> object:
        calls.append(str(image.format))
        return original(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    return calls


def refusal(data: bytes, limits: ImageLimits | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        preprocess(data, SMALL, limits)
    return caught.value


def test_the_probe_sees_a_decoded_image(decoded: list[str]) -> None:
    preprocess(noise("PNG"), SMALL)
    assert decoded[0] == "PNG"


# The first is over our cap alone, the second where Pillow warns, the third where Pillow itself refuses.
@pytest.mark.parametrize(("width", "height"), [(8000, 8001), (12_000, 10_000), (20_000, 10_000)])
def test_too_many_pixels_are_seen_in_the_header(width: int, height: int, decoded: list[str]) -> None:
    data = blank_png(width, height)
    assert len(data) < 150_000
    error = refusal(data)
    assert error.code == "image_too_many_pixels"
    assert "image must have at most 64000000 pixels" in str(error)
    assert str(width * height) in str(error)
    assert decoded == []


def test_the_pixel_cap_itself_is_allowed() -> None:
    data = noise("PNG", (40, 25))
    assert preprocess(data, SMALL, ImageLimits(max_pixels=1000)).shape == (16, 16, 3)
    assert refusal(data, ImageLimits(max_pixels=999)).code == "image_too_many_pixels"


def test_a_cap_above_pillows_warning_is_honoured() -> None:
    assert preprocess(blank_png(10_000, 9_000), SMALL, ImageLimits(max_pixels=100_000_000)).shape == (16, 16, 3)


def test_the_byte_cap_itself_is_allowed() -> None:
    data = noise("PNG")
    assert preprocess(data, SMALL, ImageLimits(max_bytes=len(data))).shape == (16, 16, 3)
    error = refusal(data, ImageLimits(max_bytes=len(data) - 1))
    assert error.code == "image_too_large"
    assert f"at most {len(data) - 1} bytes, found {len(data)}" in str(error)


def test_bytes_over_the_cap_are_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    assert refusal(b"x" * 11, ImageLimits(max_bytes=10)).code == "image_too_large"


def test_a_very_long_line_is_refused(decoded: list[str]) -> None:
    error = refusal(blank_png(MAX_SIDE + 1, 1))
    assert error.code == "image_too_many_pixels"
    assert f"sides of at most {MAX_SIDE}" in str(error)
    assert decoded == []
    assert preprocess(blank_png(MAX_SIDE, 1), SMALL).shape == (16, 16, 3)


def test_a_jpeg_of_absurdly_many_scans_is_refused(decoded: list[str]) -> None:
    data = noise("JPEG", progressive=True)
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    error = refusal(data[:end] + data[last:end] * MAX_SCANS + data[end:])
    assert error.code == "image_damaged"
    assert f"at most {MAX_SCANS} scans" in str(error)
    assert decoded == []


def test_a_run_length_encoded_bmp_is_refused(decoded: list[str]) -> None:
    pixels = b"\x04\x01\x00\x00" * 4 + b"\x00\x01"
    header = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    data = b"BM" + struct.pack("<IHHI", 1078 + len(pixels), 0, 0, 1078) + header + bytes(1024) + pixels
    error = refusal(data)
    assert error.code == "image_not_recognised"
    assert "run-length" in str(error)
    assert decoded == []


NOT_IMAGES = {
    "empty": b"",
    "text": b"not an image",
    "json": b'{"image": "..."}',
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "pdf": b"%PDF-1.7\n",
    "zeros": bytes(1000),
    "png signature alone": b"\x89PNG\r\n\x1a\n",
    "jpeg start alone": b"\xff\xd8",
    "png of no columns": blank_png(8, 8)[:16] + bytes(4) + blank_png(8, 8)[20:],
    "ppm": noise("PPM"),
    "ico": noise("ICO"),
}


@pytest.mark.parametrize("data", NOT_IMAGES.values(), ids=NOT_IMAGES)
def test_not_an_image(data: bytes, decoded: list[str]) -> None:
    error = refusal(data)
    assert error.code == "image_not_recognised"
    assert str(error).startswith("image ")
    assert decoded == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("percent", range(10, 100, 10))
def test_truncated(kind: str, percent: int) -> None:
    data = noise(kind, (200, 200))
    error = refusal(data[: len(data) * percent // 100])
    # A WEBP is opened as a whole, so that half of one has no header yet.
    wanted = {"image_damaged", "image_not_recognised"} if kind == "WEBP" else {"image_damaged"}
    assert error.code in wanted
    assert "image" in str(error)


def test_a_flipped_byte_in_the_pixels_of_a_png_is_damage() -> None:
    data = bytearray(noise("PNG"))
    data[len(data) // 2] ^= 0xFF
    assert refusal(bytes(data)).code == "image_damaged"


def test_a_header_for_which_pillow_raises_a_syntax_error() -> None:
    data = bytearray(noise("JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12  # bits a sample
    error = refusal(bytes(data))
    assert error.code == "image_not_recognised"
    assert "12-bit" in str(error)
    assert isinstance(error.__cause__, SyntaxError)


BROKEN_EXIF = {
    "cut short": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01",
    "wild offset": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "not tiff": b"Exif\0\0" + b"\xff" * 40,
    "empty": b"Exif\0\0",
    "too many entries": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHIHH", 0x0110, 2, 9999, 8, 0),
    "orientation 9": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHHI", 0x0112, 3, 1, 9, 0, 0),
    "orientation is text": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI4sI", 0x0112, 2, 4, b"abc\0", 0),
}


@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
def test_broken_exif_is_no_reason_to_refuse_a_good_image(exif: bytes) -> None:
    native = Preprocessing(height=24, width=40)
    plain = preprocess(noise("JPEG", (40, 24)), native)
    np.testing.assert_array_equal(preprocess(noise("JPEG", (40, 24), exif=exif), native), plain)


def nasty() -> dict[str, bytes]:
    """Images at which Pillow itself would print a warning."""
    mpo = (GOLDEN / "jpeg-two-images.jpg").read_bytes()
    at = mpo.index(b"MPF\0") + 4
    return {
        "bomb": blank_png(12_000, 10_000),
        "exif": noise("JPEG", exif=BROKEN_EXIF["too many entries"]),
        "mpo": mpo[:at] + b"XX" + mpo[at + 2 :],
        "apng": noise("PNG").replace(b"IDAT", b"acTL", 1),
    }


@pytest.mark.parametrize("rule", ["error", "always"])
@pytest.mark.parametrize("name", nasty())
def test_the_callers_warning_filters_change_nothing(name: str, rule: str) -> None:
    def outcome() -> object:
        try:
            return preprocess(nasty()[name], SMALL).tobytes()
        except ImageError as error:
            return error.code

    plain = outcome()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter(rule)
        assert outcome() == plain
    assert heard == []


_CHILD = """
import resource, sys
from sfsc_bundle.decoder import JpegFile
from sfsc_bundle.errors import ImageError
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    preprocess(data, Preprocessing(height=16, width=16))
except ImageError as error:
    print(error.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("size", [(20_000, 10_000), (12_000, 10_000)])
def test_a_bomb_costs_no_memory_and_prints_nothing(size: tuple[int, int]) -> None:
    data = blank_png(*size)
    child = subprocess.run([sys.executable, "-c", _CHILD], input=data, capture_output=True, check=True)
    code, kilobytes = child.stdout.decode().split()
    assert child.stderr == b""
    assert code == "image_too_many_pixels"
    assert int(kilobytes) < 16 * 1024  # the pixels would be 120 MB and more


def test_a_damaged_tiff_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(noise("TIFF", compression="tiff_lzw"))
    at = len(data) // 2
    data[at : at + 200] = bytes(200)
    assert refusal(bytes(data)).code == "image_damaged"
    assert capfd.readouterr() == ("", "")


def test_a_large_jpeg_is_decoded_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two calls a thread would wait for Python's lock, and the other cores with it."""
    read: list[int] = []
    original = JpegFile.load_read

    def load_read(image: JpegFile, most: int) -> bytes:
        found = original(image, most)
        read.append(len(found))
        return found

    monkeypatch.setattr(JpegFile, "load_read", load_read)
    data = noise("JPEG", (512, 512), quality=95)
    assert len(data) > 2 * ImageFile.MAXBLOCK, "it would be more than one call"
    preprocess(data, SMALL)
    assert read == [len(data)]
