"""Every row of the table of image formats, wherever the service takes, keeps, shows or lists images."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_bundle.image_formats import IMAGE_FORMATS, ImageFormat
from sfsc_service.cli.image_files import find_images
from sfsc_service.gallery.listing import read_listing
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import Live, running

every_format = pytest.mark.parametrize("row", IMAGE_FORMATS, ids=lambda row: row.name)


@pytest.fixture(scope="module")
def formats(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    data = tmp_path_factory.mktemp("formats")
    with running(Settings(bundle=tiny.folder, data=data, port=0, threads=1, slo_ms=1000.0)) as made:
        yield made


@every_format
def test_a_format_is_embedded_stored_and_shown_as_what_it_is(formats: Live, row: ImageFormat) -> None:
    image = draw_image(1, format=row.name)
    assert formats.post_image("/embed", image).status_code == 200
    assert formats.put_image(f"/items/{row.name}", image).status_code == 200
    shown = formats.http.get(f"/items/{row.name}/image")
    assert (shown.content, shown.headers["content-type"]) == (image, row.media_type)


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
