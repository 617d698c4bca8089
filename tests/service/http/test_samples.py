"""Sample images: only what a listing names is served, and a bad listing costs the samples, not the service."""

import json
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.cli.load import demo_images
from sfsc_service.errors import StartError
from sfsc_service.gallery.listing import read_listing
from sfsc_service.http.routes.samples import MAX_SAMPLES
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import running

IMAGE = draw_image(5)


def listing(folder: Path, document: Any) -> Path:
    (folder / "queries").mkdir(parents=True)
    (folder / "queries" / "a b.jpg").write_bytes(IMAGE)
    (folder / "secret.jpg").write_bytes(draw_image(6))
    path = folder / "gallery.json"
    path.write_text(json.dumps(document))
    return path


GOOD = {
    "seed": 3,
    "items": [{"file": "queries/a b.jpg"}],
    "queries": [{"file": "queries/a b.jpg", "identity": "v7", "item": "cars/7"}],
}


def test_samples_are_what_the_listing_names(settings: Settings, tmp_path: Path) -> None:
    samples = listing(tmp_path / "gallery", GOOD)
    with running(settings.model_copy(update={"samples": samples})) as live:
        (sample,) = live.http.get("/samples").json()["samples"]
        assert sample == {
            "name": "a b",
            "image": "samples/a%20b",
            "metadata": {"identity": "v7"},
            "item": "cars/7",
        }
        response = live.http.get(f"/{sample['image']}")
        assert response.content == IMAGE
        assert response.headers["Content-Type"] == "image/jpeg"
        (policy,) = response.headers.get_list("Content-Security-Policy")
        assert "sandbox" in policy, "a route's own policy stands instead of the general one"
        for name in ("secret", "..%2Fsecret", "%2e%2e%2fsecret.jpg", "a b.jpg", "queries%2Fa b", "%FF"):
            problem = live.http.get(f"/samples/{name}")
            assert problem.status_code == 404
            assert problem.json()["code"] == "not_found"


def test_samples_are_bounded_in_number_and_bytes(settings: Settings, tmp_path: Path) -> None:
    names = ["large", *(f"sample-{number:02}" for number in range(MAX_SAMPLES))]
    samples = listing(tmp_path / "gallery", {"queries": [{"file": f"queries/{name}.jpg"} for name in names]})
    for name in names:
        (samples.parent / "queries" / f"{name}.jpg").write_bytes(IMAGE + b"\0" * (name == "large"))
    with running(settings.model_copy(update={"samples": samples, "max_image_bytes": len(IMAGE)})) as live:
        listed = live.http.get("/samples").json()["samples"]
        assert [sample["name"] for sample in listed] == names[1:MAX_SAMPLES]
        assert live.http.get("/samples/large").status_code == 404


def test_a_bundle_without_a_gallery_has_no_samples(settings: Settings) -> None:
    with running(settings) as live:
        assert live.http.get("/samples").json() == {"samples": []}


def test_a_missing_image_or_a_bad_listing_is_left_out(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = listing(tmp_path / "gone", {"queries": [{"file": "nothing.jpg"}, *GOOD["queries"]]})
    bad = listing(tmp_path / "bad", {"queries": [{"file": "../a.jpg"}]})
    for samples, left in ((gone, ["a b"]), (bad, []), (tmp_path / "nowhere.json", [])):
        with running(settings.model_copy(update={"samples": samples})) as live:
            assert [sample["name"] for sample in live.http.get("/samples").json()["samples"]] == left
        assert "sample image" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"items": [{"file": "/etc/passwd.jpg"}]}, "file: must be an image .* below the listing's folder"),
        ({"items": [{"file": "a/../../b.jpg"}]}, "file: must be an image"),
        ({"items": [{"file": "notes.txt"}]}, "file: must be an image"),
        ({"items": [{"name": "a.jpg"}]}, r"items\.0\.file: is missing"),
        ({"items": [{"file": "a.jpg"}, {"file": "b/a.png"}]}, "file names must differ, found a 2 times"),
        ([], "must be an object"),
    ],
)
def test_a_bad_listing_is_named_in_one_sentence(tmp_path: Path, document: Any, sentence: str) -> None:
    with pytest.raises(StartError, match=sentence):
        read_listing(listing(tmp_path / "gallery", document))


def test_a_demo_gallery_is_loaded_by_the_same_listing(tmp_path: Path) -> None:
    listing(tmp_path / "gallery", GOOD)
    (image,) = demo_images(tmp_path).images
    assert (image.name, image.path.read_bytes(), image.metadata) == ("a b", IMAGE, {})
    assert not demo_images(tmp_path / "without a gallery").images
