"""The manifest refuses whatever it does not know, with the place and the reason."""

import copy
import math
from typing import Any

import pytest
from pydantic import ValidationError

from sfsc_bundle.manifest import Adopted, Joined, Manifest
from tests.bundle.manifests import document, manifest

FILES = {"w0.5.onnx": b"narrow", "w1.0.onnx": b"wide"}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The valid document with one entry replaced or added; `path` is dotted."""
    whole = copy.deepcopy(document(FILES))
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place: Any = whole
    for part in parents:
        place = place[part]
    place[last] = value
    return whole


def test_the_document_of_these_tests_is_valid_and_survives_a_round_trip() -> None:
    first = manifest(FILES)
    assert Manifest.model_validate_json(first.model_dump_json()) == first
    assert first.widths == ("0.5", "1.0") == tuple(submodel.name for submodel in first.submodels)
    assert first.submodel("1.0").file == "w1.0.onnx"


def test_a_width_it_has_not() -> None:
    with pytest.raises(KeyError, match=r"0\.75"):
        manifest(FILES).submodel("0.75")


def test_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        manifest(FILES).name = "other"


def test_widths_are_written_canonically() -> None:
    whole = changed("submodels.1.width", "1.00")
    whole["quality"]["widths"] = [".5", "1"]
    assert Manifest.model_validate(whole).widths == ("0.5", "1.0")


SQUARE_AND_A_ROW = [[50, 50], [50, 50], [50, 50]]

WRONG = [
    ("surprise", 1, "Extra inputs are not permitted"),
    ("preprocessing.mean", [0.5], "Extra inputs are not permitted"),
    ("submodels.0.flops", 1, "Extra inputs are not permitted"),
    ("quality.map", 1, "Extra inputs are not permitted"),
    ("provenance.host", "x", "Extra inputs are not permitted"),
    ("schema_version", 1, "must be 2, found 1, of an older version; make the bundle anew"),
    ("schema_version", 3, "Input should be 2"),
    ("schema_version", "two", "Input should be 2"),
    ("name", "", "must be 1 to 64 letters .A to Z., digits, ., _ or -, the first a letter or digit"),
    ("name", "../up", "must be 1 to 64 letters"),
    ("space", "a space", "must be 1 to 100 letters"),
    ("dimension", 1, "greater than or equal to 2"),
    ("preprocessing.height", 0, "greater than or equal to 8"),
    ("preprocessing.width", 10**9, "less than or equal to 2048"),
    ("preprocessing.resize", "crop", "Input should be 'squash'"),
    ("preprocessing.interpolation", "bicubic", "Input should be 'bilinear'"),
    ("submodels", [], "at least 1 item"),
    ("submodels.0.width", "2", "a width is a number above 0"),
    ("submodels.0.width", "1.0", "ascending order of width and precision without repeats, found 1.0 float32, 1"),
    ("submodels.0.file", "../w0.5.onnx", "must be a file name of at most 100 letters"),
    ("submodels.0.file", "/etc/w0.5.onnx", "must be a file name of at most"),
    ("submodels.0.file", "manifest.json", "with .onnx at its end"),
    ("submodels.0.file", "w1.0.onnx", "must have a file each"),
    ("submodels.0.sha256", "f" * 63, "must be a sha256: 64 hexadecimal digits"),
    ("submodels.0.sha256", "F" * 64, "must be a sha256: 64 hexadecimal digits"),
    ("submodels.0.precision", "int8", "Input should be 'float32'"),
    ("submodels.0.parameters", 0, "greater than or equal to 1"),
    ("submodels.0.macs", -1, "greater than or equal to 1"),
    ("submodels.0.opset", 9, "greater than or equal to 17"),
    ("submodels.0.macs", 10**400, "less than or equal to 9007199254740992"),
    ("provenance.recipe", {"lr": float("nan")}, "finite number"),
    ("submodels.0.parity.images", 0, "greater than or equal to 1"),
    ("submodels.0.parity.pictures", 1, "Extra inputs are not permitted"),
    ("submodels.0.parity.onnx_min_cosine", math.nan, "should be a finite number"),
    ("submodels.0.normalisation", {"mean": [0.5], "deviation": [0.5, 0.5]}, "one channel .*, found 1 and 2"),
    ("submodels.0.normalisation", {"mean": [0, 0], "deviation": [1, 1]}, "one channel .*, found 2 and 2"),
    ("submodels.0.normalisation.mean", [], "at least 1 item"),
    ("submodels.0.normalisation.mean", [math.inf], "should be a finite number"),
    ("submodels.0.normalisation.deviation", [0], "greater than 0"),
    ("quality.widths", ["0.25", "1.0"], r"quality\.widths must be the submodels' names"),
    ("quality.mean_ap", [[50]], "mean_ap must be 2×2"),
    ("quality.mean_ap", SQUARE_AND_A_ROW, "mean_ap must be 2×2"),
    ("quality.rank1", [[50, 50], [50]], "rank1 must be 2×2"),
    ("quality.mean_ap.0.1", 100.5, "less than or equal to 100"),
    ("quality.mean_ap.0.1", -0.5, "greater than or equal to 0"),
    ("quality.rank1.1.1", math.nan, "should be a finite number"),
    ("quality.queries", 0, "greater than or equal to 1"),
    ("quality.mixed.draws", 1, "greater than or equal to 2"),
    ("quality.mixed.mean_ap", [50], "mixed must have 2 figures in every list"),
    ("quality.mixed.mean_ap_spread", [], "mixed must have 2 figures in every list"),
    ("quality.mixed.rank1", [50, 50, 50], "mixed must have 2 figures in every list"),
    ("quality.mixed.rank1_spread.0", -1, "greater than or equal to 0"),
    ("quality.mixed.shares", [], "at least 1 item"),
    ("quality.mixed.shares", [1, 0], r"shares must ascend without repeats, found \[1\.0, 0\.0\]"),
    ("quality.mixed.shares", [1, 1], "shares must ascend without repeats"),
    ("quality.mixed.shares.1", 1.5, "less than or equal to 1"),
    ("quality.mixed.curve", [[50, 50]], "curve must have 2 rows, one per share, found 1"),
    ("quality.mixed.curve.1", [50], "mixed must have 2 figures in every list"),
    ("alignment.base", "ridge", "Input should be 'procrustes' or 'least-squares'"),
    ("alignment.base", "procrustes", "images or unlabelled must be above 0"),
    ("alignment.ridge_share", 0.5, "ridge_share must be 0 where there is no map, found 0.5"),
    ("alignment.ridge_share", 1.5, "less than or equal to 1"),
    ("alignment.strength", -1, "greater than or equal to 0"),
    ("provenance.kind", "bought", "does not match any of the expected tags: 'trained', 'joined', 'adopted'"),
    ("provenance.recipe_sha256", "", "must be a sha256"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{p}={v!r:.20}" for p, v, _ in WRONG])
def test_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate(changed(path, value))


def test_widths_out_of_order() -> None:
    whole = document(FILES)
    whole["submodels"].reverse()
    with pytest.raises(ValidationError, match="ascending order"):
        Manifest.model_validate(whole)


def test_maps_may_be_fitted_on_images_without_identities_alone() -> None:
    whole = document(FILES, alignment={"base": "least-squares", "strength": 0.01, "unlabelled": 500})
    assert Manifest.model_validate(whole).alignment.unlabelled == 500


def adopted(*widths: str, extends: str | None = None) -> dict[str, Any]:
    """The valid document of a bundle whose networks at these widths were trained elsewhere."""
    origin = {"source": "there.onnx", "sha256": "0" * 64, "licence": "MIT", "map": "ridge"}
    models = [origin | {"width": width} for width in widths]
    beside = {"data_sha256": "0" * 64, "versions": {}, "data_licence": "none"}
    return document(FILES, provenance={"kind": "adopted", "models": models, "extends": extends} | beside)


def test_networks_may_come_from_elsewhere() -> None:
    for whole in (adopted("0.5", "1.0"), adopted("1", ".5"), adopted("0.5", extends="test-space")):
        manifest = Manifest.model_validate(whole)
        assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
        assert isinstance(manifest.provenance, Adopted)


@pytest.mark.parametrize(
    "whole",
    [adopted("0.5"), adopted("0.5", "0.75"), adopted("0.5", "0.5", "1.0"), adopted("0.5", "0.5", extends="other")],
    ids=["one is missing", "unknown", "twice", "twice beside another"],
)
def test_every_width_has_one_origin(whole: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"must name each adopted width of 0\.5, 1\.0 once"):
        Manifest.model_validate(whole)


def test_an_adopted_bundle_has_models() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        Manifest.model_validate(adopted(extends="other"))


def joined(*runs: tuple[str, ...]) -> dict[str, Any]:
    """The document of a bundle whose widths come from these runs."""
    training = document(FILES)["provenance"]
    found = [{"widths": widths, "training": training} for widths in runs]
    return document(FILES, provenance={"kind": "joined", "runs": found})


def test_widths_may_come_from_runs_that_were_trained_apart() -> None:
    manifest = Manifest.model_validate(joined(("1.0",), ("0.5",)))
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert isinstance(manifest.provenance, Joined)


@pytest.mark.parametrize(
    "runs",
    [(("0.5",), ("0.5", "1.0")), (("0.5",), ("0.75",)), (("0.5",), ("0.5",))],
    ids=["twice", "other", "one"],
)
def test_every_joined_width_comes_from_one_run(runs: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(ValidationError, match=r"must name each width of 0\.5, 1\.0 once, found 0\.5"):
        Manifest.model_validate(joined(*runs))


def test_one_run_is_not_joined() -> None:
    with pytest.raises(ValidationError, match="at least 2 items"):
        Manifest.model_validate(joined(("0.5", "1.0")))


@pytest.mark.parametrize("name", sorted(document(FILES).keys() - {"schema_version"}))
def test_nothing_has_a_silent_default(name: str) -> None:
    whole = document(FILES)
    del whole[name]
    with pytest.raises(ValidationError, match="Field required"):
        Manifest.model_validate(whole)
