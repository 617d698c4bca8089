"""Every row of the table of image formats, wherever the service takes, keeps, shows or lists images."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from sfsc_bundle.folder import Bundle
from sfsc_bundle.image_formats import IMAGE_FORMATS, FormatName, ImageFormat, available_formats, media_type
from sfsc_service.cli.image_files import find_images
from sfsc_service.gallery.listing import read_listing
from sfsc_service.settings import Settings
from tests.bundle.encoded_images import READ_FORMATS, encoded
from tests.service.live import Live, running

every_format = pytest.mark.parametrize("row", IMAGE_FORMATS, ids=lambda row: row.name)


@pytest.fixture(scope="module")
def formats(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    data = tmp_path_factory.mktemp("formats")
    with running(Settings(bundle=tiny.folder, data=data, port=0, threads=1, slo_ms=1000.0)) as made:
        yield made


@pytest.mark.parametrize("format", READ_FORMATS)
def test_a_format_is_embedded_stored_and_shown_as_what_it_is(formats: Live, format: FormatName) -> None:
    image = encoded(format)
    assert formats.post_image("/embed", image).status_code == 200
    assert formats.put_image(f"/items/{format}", image).status_code == 200
    shown = formats.http.get(f"/items/{format}/image")
    assert (shown.content, shown.headers["content-type"]) == (image, media_type(format))


@pytest.mark.parametrize("format", READ_FORMATS)
def test_a_preview_is_a_small_jpeg_of_any_format(formats: Live, format: FormatName) -> None:
    image = encoded(format)
    formats.put_image("/items/large", image)
    shown = formats.http.get("/items/large/image", params={"preview": 16})
    assert shown.headers["content-type"] == "image/jpeg"
    preview = Image.open(io.BytesIO(shown.content))
    assert (preview.format, max(preview.size)) == ("JPEG", 16)
    again = {"If-None-Match": shown.headers["etag"]}
    assert formats.http.get("/items/large/image", params={"preview": 16}, headers=again).status_code == 304
    assert formats.http.get("/items/large/image", headers=again).content == image


def test_a_preview_is_upright_and_no_larger_than_the_image(formats: Live) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the file's right side is the image's top
    content = io.BytesIO()
    Image.new("RGB", (64, 32), "red").save(content, "TIFF", exif=exif)
    formats.put_image("/items/turned", content.getvalue())
    preview = Image.open(io.BytesIO(formats.http.get("/items/turned/image?preview=1024").content))
    assert preview.size == (32, 64)
    assert formats.http.get("/items/turned/image?preview=2000").status_code == 422
    assert formats.http.get("/items/turned/image?surprise=1").status_code == 422


@pytest.mark.parametrize("name", ["tiff", "heif", "avif"])
def test_a_format_is_switched_off_by_a_setting(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SFSC_ACCEPT_{name.upper()}", "false")
    assert available_formats() - Settings(data=tmp_path).formats == available_formats() & {name.upper()}


def test_a_format_that_is_switched_off_is_refused_by_its_name(tiny: Bundle, tmp_path: Path) -> None:
    settings = Settings(bundle=tiny.folder, data=tmp_path, port=0, threads=1, slo_ms=1000.0, accept_tiff=False)
    with running(settings) as live:
        answer = live.post_image("/embed", encoded("TIFF"))
        assert (answer.status_code, answer.json()["code"]) == (422, "image_not_recognised")
        assert "found TIFF, which is switched off here" in answer.json()["detail"]
        assert live.post_image("/embed", encoded("PNG")).status_code == 200


@every_format
def test_a_format_stands_in_the_document_of_the_api(formats: Live, row: ImageFormat) -> None:
    document = formats.http.get("/openapi.json").json()
    assert row.media_type in document["paths"]["/embed"]["post"]["requestBody"]["content"]


@every_format
def test_a_formats_files_are_found_in_folders_and_listings(tmp_path: Path, row: ImageFormat) -> None:
    names = [f"{number}{suffix}" for number, suffix in enumerate((*row.suffixes, row.suffixes[0].upper()))]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    listing = tmp_path / "gallery.json"
    listing.write_text(json.dumps({"items": [{"file": name} for name in names]}))
    assert [item.path.name for item in read_listing(listing).items] == names
    assert sorted(image.name for image in find_images(tmp_path).images) == sorted(names)
