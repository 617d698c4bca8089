"""A second precision from export to service: the bundle's rows, budgets, gallery, metrics and costs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the training extra is not installed")

from live_service import launched
from sfsc_bundle.folder import open_bundle
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import make_runner
from tests.training.conftest import SMALL_RECIPE, draw_identities

NAMES = ("0.5-int8", "0.5", "1.0-int8", "1.0")


def command(*words: object) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name(str(words[0]))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [script, *map(str, words[1:])], capture_output=True, text=True, env=environment, timeout=250
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    draw_identities(folder / "train", identities=8, shots=6, seed=1)
    draw_identities(folder / "test", identities=4, shots=4, seed=2)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory, data):
    recipe, run, folder = (tmp_path_factory.mktemp("int8") / name for name in ("small.toml", "run", "bundle"))
    recipe.write_text(SMALL_RECIPE)
    trained = command("sfsc-train", "train", recipe, "--data", data, "--out", run, "--workers", 0)
    assert trained.returncode == 0, trained.stderr
    refused = command("sfsc-train", "export", run, "--data", data, "--to", folder, "--int8", "0.25")
    assert (refused.returncode, folder.exists()) == (2, False)
    assert "--int8: must be one of 0.5, 1.0, found 0.25" in refused.stderr
    done = command("sfsc-train", "export", run, "--data", data, "--to", folder, "--int8", "0.5", "--int8", "1.0")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def image(data):
    return next((data / "test").rglob("*.png")).read_bytes()


def vectors(folder: Path, image: bytes) -> dict[str, np.ndarray]:
    bundle = open_bundle(folder)
    pixels = preprocess(image, bundle.manifest.preprocessing)[None]
    return {name: make_runner(bundle, name)(pixels)[0] for name in bundle.manifest.widths}


def test_the_bundle_has_a_graph_and_a_row_of_quality_per_precision(exported, image):
    manifest = open_bundle(exported).manifest
    assert manifest.widths == manifest.quality.widths == NAMES
    assert len(manifest.quality.mean_ap) == len(manifest.quality.mixed.mean_ap) == 4
    sizes = {row.name: (exported / row.file).stat().st_size for row in manifest.submodels}
    assert sizes["1.0-int8"] < sizes["1.0"]
    found = vectors(exported, image)
    for width in ("0.5", "1.0"):
        assert 0.95 < float(found[width] @ found[f"{width}-int8"]) < 0.99999, "close, and not the same graph"
    listed = command("sfsc", "widths", exported)
    assert all(name in listed.stdout for name in NAMES), listed


def test_the_service_offers_both_precisions_of_a_width(exported, image, tmp_path):
    found = vectors(exported, image)
    png = {"content-type": "image/png"}
    settings = {"SFSC_DATA": str(tmp_path / "store"), "SFSC_SLO_MS": "10000"}
    with launched(exported, tmp_path, **settings) as (client, _):

        def embed(**options: object) -> tuple[str, str, np.ndarray]:
            answer = client.post("/embed", params=options, content=image, headers=png)
            assert answer.status_code == 200, answer.text
            (result,) = answer.json()["results"]
            return result["width"], result["reason"], np.array(result["embedding"], np.float32)

        told = client.get("/widths").json()
        assert [(row["width"], row["precision"]) for row in told["widths"]] == [
            (name, "int8" if name.endswith("int8") else "float32") for name in NAMES
        ]
        assert all(row["latency_ms"] > 0 for row in told["widths"])
        for name in NAMES:
            width, reason, vector = embed(width=name)
            assert (width, reason) == (name, "requested")
            assert float(vector @ found[name]) == pytest.approx(1.0, abs=1e-5)
            client.put(f"/items/{name}", params={"width": name}, content=image, headers=png).raise_for_status()
        assert embed(width="1")[0] == "1.0"
        assert embed()[:2] == ("1.0", "budget")
        assert embed(min_quality=0)[:2] == ("0.5-int8", "budget")
        unknown = client.post("/embed", params={"width": "0.75-int8"}, content=image, headers=png)
        assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_width")
        hits = client.post("/search", params={"width": "0.5-int8"}, content=image, headers=png).json()["hits"]
        assert {hit["id"]: hit["width"] for hit in hits} == {name: name for name in NAMES}
        only = {"width": "1.0", "filter": json.dumps({"match": {"width": "1.0-int8"}})}
        (hit,) = client.post("/search", params=only, content=image, headers=png).json()["hits"]
        assert hit["id"] == "1.0-int8"
        assert client.get("/widths").json()["gallery"]["widths"] == dict.fromkeys(sorted(NAMES), 1)
        assert 'sfsc_embeddings_total{reason="requested",width="1.0-int8"} 2.0' in client.get("/metrics").text
    assert list(json.loads((tmp_path / "store" / "costs.json").read_text())["costs"]) == list(NAMES)
