"""Quality measured on the gallery's own images: right, bounded, in the place of the bundle's, and told apart."""

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sfsc_bundle.folder import Bundle
from sfsc_bundle.retrieval import Labels, cross_width
from sfsc_service.client import Client
from sfsc_service.engine.previews import Previews
from sfsc_service.gallery.identity_sample import MAX_PER_IDENTITY, IdentitySample, identity_of
from sfsc_service.gallery.near_copies import near_copy
from sfsc_service.gallery.quality_file import QualityFile
from sfsc_service.settings import Settings
from sfsc_service.store.protocol import EncodedImage, Item
from tests.service.images import draw_image
from tests.service.live import Live, running
from tests.tiny_bundle import make_tiny_bundle

WAIT_S = 60.0
MODULE = "sfsc_service.gallery.quality_measurement"


@pytest.fixture
def own(settings: Settings) -> Settings:
    """Nothing is left to be measured of costs once every width has had a batch of one."""
    return settings.model_copy(update={"max_batch": 1})


@pytest.fixture
def live(own: Settings) -> Iterator[Live]:
    with running(own) as made:
        yield made


def shifted(identity: int, shot: int) -> bytes:
    """A shot of an identity: its pattern with the pattern of another one over it."""
    mine, other = (Image.open(io.BytesIO(draw_image(seed))) for seed in (identity, 100 + 7 * identity + shot))
    content = io.BytesIO()
    Image.blend(mine, other, 0.45).save(content, "JPEG", quality=90)
    return content.getvalue()


def fill(live: Live, identities: int, shots: int) -> list[dict[str, Any]]:
    items = [
        {"id": f"{n}-{shot}", "image": shifted(n, shot), "width": 0.25, "metadata": {"of": {"car": n}}}
        for n in range(identities)
        for shot in range(shots)
    ]
    with Client(live.url) as client:
        assert {one["status"] for one in client.put_many(items)} == {200}
    return items


def quality(live: Live) -> dict[str, Any]:
    found: dict[str, Any] = live.http.get("/quality").json()
    return found


def measure(live: Live, **options: str) -> dict[str, Any]:
    asked = live.http.post("/quality", params=options)
    assert (asked.status_code, asked.json()["state"]) == (202, "asked")
    wait(lambda: quality(live)["state"] == "resting")
    return quality(live)


def wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def test_near_copies_are_searched_for_and_what_is_measured_is_in_force(live: Live, own: Settings) -> None:
    bundles = quality(live)
    assert (bundles["source"], bundles["measured"]) == ("bundle", None)
    fill(live, 14, 1)
    found = measure(live)
    assert (found["failure"], found["source"], found["measured"]["items"]) == (None, "gallery", 14)
    measured = found["quality"]
    assert (measured["queries"], measured["gallery"], measured["widths"]) == (14, 14, bundles["quality"]["widths"])
    told = live.http.get("/widths").json()
    assert (told["quality"], told["quality_measured"]) == (measured, found["measured"])
    narrowest = told["widths"][0]
    assert narrowest["predicted_mean_ap"] == pytest.approx(measured["mean_ap"][0][0], abs=0.01)
    budget = {"min_quality": measured["mean_ap"][0][0] - 0.5}
    assert budget["min_quality"] > bundles["quality"]["mean_ap"][-1][0], "the bundle promises that for no width"
    assert live.post_image("/search", draw_image(1), **budget).json()["query"] == {
        "width": "0.25",
        "reason": "budget",
        "budget_met": True,
    }
    points = live.metric("sfsc_quality_mean_ap_points", source="gallery", width="0.25")
    assert points == pytest.approx(measured["mixed"]["mean_ap"][0])
    assert live.metric("sfsc_quality_measured_timestamp_seconds") > 1e9
    assert live.http.delete("/quality").json() == bundles
    assert live.post_image("/search", draw_image(1), **budget).json()["query"]["budget_met"] is False
    assert not (own.data / "quality.json").exists()


def test_a_field_names_the_identities_and_the_figures_are_those_of_the_images(own: Settings) -> None:
    with running(own) as live:
        items = fill(live, 5, 3)
        found = measure(live, field="of.car")
        assert found["failure"] is None
        vectors: dict[str, Any] = {}
        for width in found["quality"]["widths"]:
            answers = [live.post_image("/embed", item["image"], width=width).json() for item in items]
            vectors[width] = np.array([answer["results"][0]["embedding"] for answer in answers], np.float32)
    numbers = np.arange(len(items))
    labels = Labels(np.array([item["metadata"]["of"]["car"] for item in items]), image=numbers)
    expected = cross_width(vectors, labels, vectors, labels)
    for name in ("mean_ap", "rank1"):
        assert np.allclose(found["quality"][name], getattr(expected, name), atol=1e-3)
    assert (found["quality"]["queries"], found["measured"]["field"]) == (15, "of.car")
    with running(own) as live:
        assert quality(live) == found, "it is kept for the next start"


def test_a_measurement_is_bounded_and_leaves_out_what_cannot_be_used(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{MODULE}.ITEMS", 20)
    monkeypatch.setattr(f"{MODULE}.QUERIES", 11)
    fill(live, 18, 1)
    store = live.service.gallery._store
    (one,) = store.get(["0-0"])
    assert one is not None
    store.upsert([Item("damaged", one.space, "0.25", one.vector, {}, EncodedImage(b"none", "image/jpeg"))])
    store.upsert([Item("vector", one.space, "0.25", one.vector, {})])
    found = measure(live)
    assert (found["failure"], found["quality"]["queries"], found["quality"]["gallery"]) == (None, 11, 18)
    monkeypatch.setattr(f"{MODULE}.ITEMS", 12)
    assert measure(live)["quality"]["gallery"] <= 12


def test_what_cannot_be_measured_is_told_and_changes_nothing(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    before = quality(live)
    fill(live, 12, 1)
    found = measure(live, field="of.car")
    assert found["failure"] == "at least 10 images of which others have the same of.car are needed, found 0"
    assert found["quality"] == before["quality"]
    assert found["failure"] in live.http.get("/livez").json()["notes"][0]
    refused = live.http.post("/quality", params={"field": "a..b"})
    assert (refused.status_code, refused.json()["code"]) == (422, "filter_invalid")

    def broken(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    with monkeypatch.context() as patch:
        patch.setattr(f"{MODULE}.cross_width", broken)
        assert measure(live)["failure"] == "nobody expected this"
    assert live.metric("sfsc_idle_failures_total", work="quality") == 1.0
    found = measure(live)
    assert (found["failure"], found["source"]) == (None, "gallery")
    assert live.http.get("/livez").json()["notes"] == []


def test_it_is_measured_by_itself_where_that_is_set_and_waits_while_there_are_requests(own: Settings) -> None:
    with running(own.model_copy(update={"quality": "idle", "quality_field": "of.car"})) as live:
        wait(lambda: quality(live)["failure"])
        with live.service.embedder.activity:
            fill(live, 5, 2)
            wait(lambda: quality(live)["state"] == "paused")
            assert quality(live)["source"] == "bundle"
        wait(lambda: quality(live)["source"] == "gallery")
        assert quality(live)["measured"]["field"] == "of.car"


def test_figures_of_other_graphs_and_damaged_files_are_ignored(
    live: Live, own: Settings, tiny: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(live, 10, 1)
    measure(live)
    file = QualityFile(own.data)
    assert file.read(tiny.manifest) is not None
    assert file.read(make_tiny_bundle(tmp_path / "other", seed=3).manifest) is None
    file.path.write_text('{"schema_version": 1}')
    assert file.read(tiny.manifest) is None
    assert "the bundle's own quality is in force" in caplog.text


def test_a_measurement_ends_when_another_bundle_is_served(
    live: Live, tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(live, 10, 1)
    real, embedder = Previews.make, live.service.embedder
    networks = embedder.networks

    async def swapping(self: Previews, *arguments: Any) -> bytes:
        embedder.switch(type(networks)(tiny, None, "cpu", 1))
        return await real(self, *arguments)

    monkeypatch.setattr(Previews, "make", swapping)
    assert measure(live)["failure"] == "another bundle is served now"
    assert quality(live)["source"] == "bundle"


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 20).map(str)), unique=True, max_size=60),
    st.integers(1, 30),
)
def test_a_sample_has_all_items_of_its_identities_whatever_their_order(
    pairs: list[tuple[str, str]], most: int
) -> None:
    sample, backwards = IdentitySample(most, 1), IdentitySample(most, 1)
    for identity, item in pairs:
        sample.add(identity, item)
    for identity, item in reversed(pairs):
        backwards.add(identity, item)
    drawn = sample.items()
    assert len(drawn) == len(set(drawn)) <= most
    assert [identity for identity, _ in drawn] == [identity for identity, _ in backwards.items()]
    numbers = {identity: sum(one == identity for one, _ in pairs) for identity, _ in pairs}
    for identity in list(dict.fromkeys(identity for identity, _ in drawn))[:-1]:
        assert sum(one == identity for one, _ in drawn) == min(numbers[identity], MAX_PER_IDENTITY)
    if sum(min(number, MAX_PER_IDENTITY) for number in numbers.values()) <= most:
        assert {identity for identity, _ in drawn} == set(numbers)


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"a": {"b": 3}}, "3"),
        ({"a": {"b": "3"}}, '"3"'),
        ({"a": {"b": None}}, None),
        ({"a": {"b": [1]}}, None),
        ({"a": 3}, None),
        ({}, None),
    ],
)
def test_identities_are_scalars_of_the_metadata(metadata: dict[str, Any], found: str | None) -> None:
    assert identity_of(metadata, ("a", "b")) == found


def test_a_near_copy_is_alike_and_not_the_same() -> None:
    image = draw_image(1)
    copy = near_copy(image, "seed")
    assert copy == near_copy(image, "seed") != near_copy(image, "another")
    with Image.open(io.BytesIO(copy)) as opened, Image.open(io.BytesIO(image)) as original:
        assert all(0.7 * whole <= part < whole for part, whole in zip(opened.size, original.size, strict=True))
