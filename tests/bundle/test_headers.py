"""Headers: each cap has a sentence, no decoder sees what exceeds one, and people's files are below all of them."""

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFile

from image_attacks import IMAGE_ATTACKS, png_chunk
from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import JPEG_FACTOR, ImageHeader, ImageLimits, read_header
from sfsc_bundle.headers import gif, isobmff, jpeg, png, tiff, webp
from sfsc_bundle.headers.exif import MAX_ENTRIES, exif_orientation
from sfsc_bundle.image_formats import FormatName, available_formats
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from tests.bundle.encoded_images import READ_FORMATS, encoded, jpeg_segment, pattern, with_segments

SIZE = Preprocessing(height=16, width=16)


def header_of(data: bytes) -> ImageHeader:
    return read_header(data, ImageLimits())


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a decoder was called")

    monkeypatch.setattr(Image, "open", refuse)
    monkeypatch.setattr(ImageFile.ImageFile, "__init__", refuse)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg of exif segments": (
        lambda: IMAGE_ATTACKS["jpeg of exif segments"](size=12 * (jpeg.MAX_SEGMENTS + 1)),
        f"a JPEG must have at most {jpeg.MAX_SEGMENTS} segments before its pixels",
    ),
    "jpeg of empty segments": (
        lambda: IMAGE_ATTACKS["jpeg of empty segments"](size=4 * (jpeg.MAX_SEGMENTS + 1)),
        f"a JPEG must have at most {jpeg.MAX_SEGMENTS} segments before its pixels",
    ),
    "jpeg of fill": (
        lambda: IMAGE_ATTACKS["jpeg of fill"](size=jpeg.MAX_FILL_BYTES + 9),
        f"a JPEG must have at most {jpeg.MAX_FILL_BYTES} bytes between the segments of its header",
    ),
    "jpeg of fill in many places": (
        lambda: with_segments((bytes(jpeg.MAX_FILL_BYTES // 8) + jpeg_segment(0xE3, b"")) * 9),
        f"a JPEG must have at most {jpeg.MAX_FILL_BYTES} bytes between the segments of its header",
    ),
    "jpeg of junk": (
        lambda: IMAGE_ATTACKS["jpeg of junk"](size=jpeg.MAX_FILL_BYTES + 9),
        f"a JPEG must have at most {jpeg.MAX_FILL_BYTES} bytes between the segments of its header",
    ),
    "jpeg of a long header": (
        lambda: with_segments(jpeg_segment(0xE2, bytes(65_000)) * (jpeg.MAX_HEADER_BYTES // 65_000 + 1)),
        f"a JPEG must have at most {jpeg.MAX_HEADER_BYTES} bytes before its pixels",
    ),
    "jpeg of scans": (
        lambda: IMAGE_ATTACKS["jpeg of scans"](size=20_000),
        f"a JPEG must have at most {jpeg.MAX_SCANS} scans",
    ),
    "jpeg of comments between scans": (
        lambda: _between_scans(jpeg_segment(0xFE, b"\xff\xd9") * (jpeg.MAX_SEGMENTS + 1)),
        f"a JPEG must have at most {jpeg.MAX_SEGMENTS} segments between its scans",
    ),
    "png of tiny chunks": (
        lambda: IMAGE_ATTACKS["png of tiny chunks"](size=12 * (png.MAX_CHUNKS + 1)),
        f"a PNG must have at most {png.MAX_CHUNKS} chunks",
    ),
    "png of tiny pixels": (
        lambda: IMAGE_ATTACKS["png of tiny pixels"](size=12 * (png.MAX_CHUNKS + 1)),
        f"a PNG must have at most {png.MAX_CHUNKS} chunks",
    ),
    "gif of comments": (
        lambda: IMAGE_ATTACKS["gif of comments"](size=5 * (gif.MAX_BLOCKS + 1)),
        f"a GIF must have at most {gif.MAX_BLOCKS} blocks before its first frame",
    ),
    "webp of chunks": (
        lambda: IMAGE_ATTACKS["webp of chunks"](size=8 * (webp.MAX_CHUNKS + 1)),
        f"a WEBP must have at most {webp.MAX_CHUNKS} chunks",
    ),
    "tiff of overlapping tags": (
        IMAGE_ATTACKS["tiff of overlapping tags"],
        f"a TIFF must have at most {tiff.MAX_ENTRIES} tags in its first directory",
    ),
    "tiff of long tags": (
        lambda: _tiff_with((320, 3, tiff.MAX_VALUES + 1, 8)),
        f"a TIFF must have at most {tiff.MAX_VALUES} values of the tags that decide its pixels",
    ),
    "tiff of repeated tiles": (IMAGE_ATTACKS["tiff of repeated tiles"], "has 20000 tiles or strips, of which 1"),
    "tiff of a huge tile": (
        lambda: _tiff_with((322, 4, 1, 2**20), (323, 4, 1, 2**20), (324, 4, 1, 8), (325, 4, 1, 8)),
        "a TIFF of 64×48 pixels has tiles of 1048576×1048576",
    ),
    "tiff of floats": (lambda: _tiff_with((339, 3, 1, 3)), "samples are not unsigned integers"),
    "avif of items": (
        lambda: IMAGE_ATTACKS["avif of items"](count=12_000),
        f"the table iloc of an image must have at most {isobmff.MAX_TABLE_BYTES} bytes",
    ),
    "avif of boxes": (
        lambda: encoded("AVIF") + struct.pack(">I4s", 8, b"free") * isobmff.MAX_BOXES,
        f"a HEIC or AVIF file must have at most {isobmff.MAX_BOXES} boxes",
    ),
    "avif of hidden frames": (
        lambda: IMAGE_ATTACKS["avif of hidden frames"](side=256),
        "an AVIF of 64×64 pixels has frames of 256×256",
    ),
}
NEEDS_AVIF = pytest.mark.skipif("AVIF" not in available_formats(), reason="no decoder of AVIF is installed")


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=NEEDS_AVIF if "avif" in name else ()) for name in REFUSED]
)
def test_a_header_that_exceeds_a_cap_is_refused_in_a_sentence(name: str) -> None:
    make, sentence = REFUSED[name]
    with pytest.raises(ImageError, match=sentence) as caught:
        header_of(make())
    assert caught.value.code in ("image_damaged", "image_not_recognised")


def test_a_large_progressive_jpeg_may_have_fewer_scans() -> None:
    small = _between_scans(b"")
    frame = small.index(b"\xff\xc2") + 5
    large = small[:frame] + struct.pack(">HH", 15_000, 16_000) + small[frame + 4 :]
    scans = header_of(small).parsed.scans
    assert scans == small.count(b"\xff\xda")
    assert header_of(large).parsed.scans == scans
    last, end = large.rindex(b"\xff\xda"), large.rindex(b"\xff\xd9")
    more = large[:end] + large[last:end] * 16 + large[end:]
    with pytest.raises(ImageError, match="a JPEG of 16000×15000 pixels must have at most 16 scans"):
        header_of(more)


INFLATING = [IMAGE_ATTACKS["png of inflating profiles"](count=2), IMAGE_ATTACKS["png of inflating texts"](count=4)]


@pytest.mark.parametrize("data", INFLATING, ids=["profiles", "texts"])
def test_no_decoder_gets_what_inflates(data: bytes) -> None:
    kept = header_of(data).parsed.data
    assert len(kept) < 5000
    assert not any(kind in kept for kind in (b"iCCP", b"zTXt", b"iTXt"))
    assert preprocess(data, SIZE).shape == (16, 16, 3)


def test_no_decoder_gets_exif_data_of_which_each_tag_holds_all() -> None:
    data = IMAGE_ATTACKS["jpeg of overlapping exif"]()
    assert b"Exif" not in header_of(data).parsed.data
    assert preprocess(data, SIZE).shape == (16, 16, 3)


def test_of_a_directory_of_exif_data_so_many_entries_are_looked_at() -> None:
    def exif(before: int) -> bytes:
        entries = struct.pack("<HHII", 0x0111, 3, 1, 5) * before + struct.pack("<HHII", 0x0112, 3, 1, 6)
        return b"Exif\0\0II*\0" + struct.pack("<IH", 8, before + 1) + entries

    assert exif_orientation(exif(MAX_ENTRIES - 1)) == 6
    assert exif_orientation(exif(MAX_ENTRIES)) is None


# What photographs have at most: a profile in all of its 255 parts, a depth map in a hundred, and provenance.
PEOPLES = {
    "profile and depth map": lambda: with_segments(
        jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes(500)) * 255 + jpeg_segment(0xE1, bytes(64_000)) * 100
    ),
    "provenance": lambda: with_segments(jpeg_segment(0xEB, bytes(65_000)) * 100),
    "some fill": lambda: with_segments(b"\xff" * 4000 + jpeg_segment(0xFE, b"made by a camera")),
    "a chunk per row": lambda: _png_in_chunks(4000),
    "a workflow in a text": lambda: _png_with(png_chunk(b"tEXt", b"workflow\0" + b"{}" * 2**20)),
    "a comment of a megabyte": lambda: _gif_with(b"\x21\xfe" + (b"\xff" + b"a" * 255) * 4096 + b"\0"),
}


@pytest.mark.parametrize("name", PEOPLES)
def test_headers_as_people_have_them_are_accepted(name: str) -> None:
    data = PEOPLES[name]()
    plain = encoded("GIF" if data.startswith(b"GIF") else "PNG" if data.startswith(b"\x89") else "JPEG")
    np.testing.assert_array_equal(preprocess(data, SIZE), preprocess(plain, SIZE))


@pytest.mark.parametrize("format", READ_FORMATS)
def test_the_size_is_read_without_a_decoder(format: FormatName) -> None:
    found = header_of(encoded(format, pattern(128, 64)))
    assert (found.format, found.parsed.width, found.parsed.height) == (format, 128, 64)
    assert found.parsed.orientation == 1


@pytest.mark.parametrize("format", READ_FORMATS)
def test_a_header_that_is_cut_short_is_refused(format: FormatName) -> None:
    data = encoded(format)
    for length in (*range(1, 60), *range(60, len(data) * 9 // 10, 97)):
        with pytest.raises(ImageError):
            preprocess(data[:length], SIZE)


def test_a_jpeg_may_have_more_pixels_than_others() -> None:
    data = encoded("JPEG")
    limits = ImageLimits(max_pixels=64 * 48 // JPEG_FACTOR)
    assert read_header(data, limits).pixels == 64 * 48
    with pytest.raises(ImageError, match=f"at most {limits.max_pixels} pixels as a PNG, found 64×48"):
        read_header(encoded("PNG"), limits)


def test_a_format_that_is_switched_off_is_refused_by_its_name() -> None:
    limits = ImageLimits(formats=available_formats() - {"TIFF"})
    with pytest.raises(ImageError, match="found TIFF, which is switched off here") as caught:
        read_header(encoded("TIFF"), limits)
    assert caught.value.code == "image_not_recognised"
    assert read_header(encoded("PNG"), limits).format == "PNG"


def _between_scans(segments: bytes) -> bytes:
    whole = encoded("JPEG", progressive=True)
    second = whole.index(b"\xff\xda", whole.index(b"\xff\xda") + 2)
    return whole[:second] + segments + whole[second:]


def _tiff_with(*tags: tuple[int, int, int, int]) -> bytes:
    """A small TIFF whose directory has further tags."""
    needed = {256: (4, 1, 64), 257: (4, 1, 48), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    strips = {273: (4, 1, 8), 278: (4, 1, 48), 279: (4, 1, 64 * 48)}
    all_tags = needed | ({} if any(tag[0] == 324 for tag in tags) else strips) | {tag: rest for tag, *rest in tags}
    entries = b"".join(struct.pack("<HHII", tag, *all_tags[tag]) for tag in sorted(all_tags))
    pixels = bytes(64 * 48)
    directory = struct.pack("<H", len(all_tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


def _png_with(chunks: bytes) -> bytes:
    whole = encoded("PNG")
    return whole[:33] + chunks + whole[33:]


def _png_in_chunks(count: int) -> bytes:
    whole = encoded("PNG")
    at = whole.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", whole, at)
    pixels = whole[at + 8 : at + 8 + length]
    parts = [pixels[n * length // count : (n + 1) * length // count] for n in range(count)]
    return whole[:at] + b"".join(png_chunk(b"IDAT", part) for part in parts) + whole[at + 12 + length :]


def _gif_with(blocks: bytes) -> bytes:
    whole = encoded("GIF")
    at = 13 + (3 << 1 + (whole[10] & 7))
    assert whole[10] & 0x80, "has a palette"
    return whole[:at] + blocks + whole[at:]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_frame_names_more_components_than_it_has_is_refused(progressive: bool) -> None:
    data = encoded("JPEG", progressive=progressive)
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    for components in (4, 255):
        broken = data[: at + 9] + bytes([components]) + data[at + 10 :]
        with pytest.raises(ImageError, match="no whole frame"):
            header_of(broken)


@pytest.mark.skipif("HEIF" not in available_formats(), reason="no decoder of HEIF is installed")
def test_more_memory_is_reserved_for_samples_of_ten_bits() -> None:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (64, 64), bytes(64 * 64 * 6)).save(buffer)
    deep, plain = header_of(buffer.getvalue()), header_of(encoded("HEIF"))
    assert deep.parsed.pixel_bytes == plain.parsed.pixel_bytes + isobmff.DEEP_BYTES
    assert preprocess(buffer.getvalue(), SIZE).shape == (16, 16, 3)
