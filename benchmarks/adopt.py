"""Networks that were trained elsewhere as widths of one bundle, without training, measured over HTTP.

    python benchmarks/adopt.py        # grocery-store from SFSC_DATASETS; needs the extra `weights`

MobileNetV2 and EfficientNet-Lite0 with ImageNet weights: first as two widths of one bundle; then Lite0 alone
fills a gallery, and MobileNetV2 joins it without embedding anything again; then Lite0 beside the demo bundle,
whose rendered vehicles it never saw. What is there already is not made again.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch

from live_service import launched
from main_job import command, insert, search_all, unpack
from result_file import Figure, write_result
from sfsc_bundle.folder import open_bundle
from sfsc_bundle.retrieval import evaluate
from sfsc_training.adopt.foreign import open_foreign
from sfsc_training.adopt.source import Wanted
from sfsc_training.config import NetworkSection, WeightsName, load_recipe
from sfsc_training.data.dataset import Split
from sfsc_training.data.images import load_images
from sfsc_training.data.reader import read_folder
from sfsc_training.export import to_onnx
from sfsc_training.networks.backbone import make_backbone
from sfsc_training.networks.published_weights import published_weights
from sfsc_training.onnx_session import open_session

RECIPE = "grocery-store-sfsc"
NARROW, FULL = "0.25", "1.0"
NETWORKS: dict[str, WeightsName] = {NARROW: "mobilenetv2", FULL: "efficientnet-lite0"}
SAME_VECTORS = 200
DEMO_WIDTH, DEMO_SIZE = "0.9", 96


def main() -> None:
    """Adopt, serve, search, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/adopt"), help="folder for graphs and bundles")
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    data = unpack("grocery-store", work)
    recipe = load_recipe(RECIPE)
    split = read_folder(data, recipe.data, recipe.seed).test
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "alone": lambda: untouched(split),
        "pair": lambda: pair(work, data, split),
        "base": lambda: joined(work, data, split),
        "demo": lambda: vehicles(work),
    }
    publish({name: kept(work / f"{name}.json", measure) for name, measure in parts.items()})


def kept(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of one part, measured once."""
    if not path.exists():
        path.write_text(json.dumps(measure(), indent=1))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def graph(work: Path, name: WeightsName) -> Path:
    """The network as an ONNX file as others have it: float [n, 3, 224, 224] → [n, 1280]."""
    path = work / f"{name}.onnx"
    if not path.exists():
        backbone = make_backbone(NetworkSection(backbone=published_weights(name).backbone, weights=name))
        path.write_bytes(to_onnx(backbone.eval(), torch.zeros(2, 3, 224, 224)))
    return path


def described(work: Path, width: str) -> list[object]:
    """The options that say what a network is."""
    known = published_weights(NETWORKS[width])
    numbers = [",".join(map(str, v)) for v in (known.normalisation.mean, known.normalisation.deviation)]
    model = ["--model", graph(work, NETWORKS[width]), "--as", width, "--licence", known.licence]
    return [*model, "--mean", numbers[0], "--std", numbers[1]]


def adopt(work: Path, name: str, data: Path, *words: object) -> Path:
    """The bundle that the command makes."""
    bundle = work / name
    if not bundle.exists():
        command("sfsc-train", "adopt", "--to", bundle, "--data", data, "--recipe", RECIPE, *words)
    return bundle


def untouched(split: Split) -> dict[str, Any]:
    """Each network's own mAP and rank-1, without any map."""
    section = load_recipe(RECIPE).data.model_copy(update={"height": 224, "width": 224})
    pixels, labels = load_images(split.paths, section), split.labels()
    found = {}
    for width, name in NETWORKS.items():
        session = open_session(open_foreign(Wanted(width, "weights", name)).compose((224, 224)))
        rows = np.concatenate(
            [session.run(None, {"images": pixels[start : start + 32]})[0] for start in range(0, len(pixels), 32)]
        )
        query, gallery = split.query, split.gallery
        scores = evaluate(rows[query], labels.take(query), rows[gallery], labels.take(gallery))
        found[width] = {"mean_ap": scores.mean_ap, "rank1": scores.rank1}
    return found


def pair(work: Path, data: Path, split: Split) -> dict[str, Any]:
    """Both networks as one bundle: every query width against a gallery of every width."""
    bundle = adopt(work, "pair", data, *described(work, FULL), *described(work, NARROW))
    with launched(bundle, work, SFSC_MAX_K=str(len(split.gallery))) as (client, _):
        return {"http": {gallery: searched(client, split, gallery) for gallery in NETWORKS}} | manifest_of(bundle)


def searched(client: httpx.Client, split: Split, gallery: str) -> dict[str, Any]:
    """Fill the gallery at one width and search it at both."""
    insert(client, split, dict.fromkeys((split.names[place] for place in split.gallery), gallery))
    return scores_of(client, split)


def scores_of(client: httpx.Client, split: Split) -> dict[str, Any]:
    found = {width: search_all(client, split, width) for width in NETWORKS}
    return {width: {"mean_ap": scores.mean_ap, "rank1": scores.rank1} for width, scores in found.items()}


def joined(work: Path, data: Path, split: Split) -> dict[str, Any]:
    """Lite0 alone fills a gallery; MobileNetV2 joins it, and the same store is served by the new bundle."""
    old = adopt(work, "full", data, *described(work, FULL))
    new = adopt(work, "joined", data, "--base", old, *described(work, NARROW))
    settings = {"SFSC_MAX_K": str(len(split.gallery)), "SFSC_DATA": str(work / "store")}
    shown = split.gallery[:: max(1, len(split.gallery) // SAME_VECTORS)]
    with launched(old, work, **settings) as (client, _):
        insert(client, split, dict.fromkeys((split.names[place] for place in split.gallery), FULL))
        before = [embedded(client, split.paths[place]) for place in shown]
    with launched(new, work, **settings) as (client, _):
        after = [embedded(client, split.paths[place]) for place in shown]
        found = {FULL: scores_of(client, split)}
        found[NARROW] = searched(client, split, NARROW)
    changed = sum(one != other for one, other in zip(before, after, strict=True))
    same = all(
        (new / part.file).read_bytes() == (old / part.file).read_bytes()
        for part in open_bundle(old).manifest.submodels
    )
    return {"http": found, "vectors": len(shown), "changed": changed, "same_graphs": same} | manifest_of(new)


def embedded(client: httpx.Client, path: Path) -> str:
    """An image's vector at the full width, as the bytes of its numbers in base64."""
    answer = client.post(
        "/embed",
        params={"width": FULL, "encoding": "base64"},
        content=path.read_bytes(),
        headers={"content-type": "image/jpeg"},
    )
    answer.raise_for_status()
    vector: str = answer.json()["results"][0]["embedding"]
    return vector


def vehicles(work: Path) -> dict[str, Any]:
    """Lite0, which never saw a rendered vehicle, in the space of the demo bundle."""
    bundle = work / "demo"
    if not bundle.exists():
        network = ("--weights", NETWORKS[FULL], "--as", DEMO_WIDTH, "--size", DEMO_SIZE)
        recipe = ("--recipe", "demo", "--base", "models/demo")
        command("sfsc-train", "adopt", "--to", bundle, "--data", work / "vehicles", *recipe, *network)
    return manifest_of(bundle)


def manifest_of(bundle: Path) -> dict[str, Any]:
    """What the manifest says of the alignment and the quality."""
    manifest = open_bundle(bundle).manifest
    return {
        "alignment": manifest.alignment.model_dump(),
        "quality": manifest.quality.model_dump(),
        "gmacs": {part.width: part.macs / 1e9 for part in manifest.submodels},
        "parity": {part.width: part.parity.onnx_min_cosine for part in manifest.submodels},
    }


def publish(parts: dict[str, dict[str, Any]]) -> None:
    """Write the figures."""
    alone, base, demo = parts["alone"], parts["base"], parts["demo"]
    figures = []
    for title, part in (("two networks", parts["pair"]), ("joined a base", base)):
        http = {
            gallery: {w: found["mean_ap"] for w, found in row.items()} for gallery, row in part["http"].items()
        }
        bound = http[NARROW][NARROW] - 1
        figures += [
            Figure(
                f"{title}: query {query}, gallery {gallery}, mAP over HTTP", http[gallery][query], "points", goal
            )
            for query, gallery, goal in (
                (NARROW, NARROW, None),
                (FULL, FULL, None),
                (NARROW, FULL, f">= {bound:.2f}"),
                (FULL, NARROW, f">= {bound:.2f}"),
            )
        ]
        figures.append(
            Figure(
                f"{title}: cosine to the original graph and map, lowest",
                min(part["parity"].values()),
                "",
                ">= 0.9999",
            )
        )
    figures += [
        Figure(f"untouched network of width {w}, self-test mAP", alone[w]["mean_ap"], "points") for w in NETWORKS
    ]
    for query, gallery in ((NARROW, FULL), (FULL, NARROW)):
        found = parts["pair"]["http"][gallery][query]["mean_ap"]
        figures.append(
            Figure(
                f"two networks: query {query}, gallery {gallery}, above MobileNetV2 as it came in its own gallery",
                found - alone[NARROW]["mean_ap"],
                "points",
                ">= -1",
            )
        )
    figures += [
        Figure(f"vectors of the base that changed, of {base['vectors']}", base["changed"], "vectors", "<= 0"),
        Figure("graphs of the base that are the same, byte for byte", float(base["same_graphs"]), "", ">= 1"),
    ]
    quality = demo["quality"]
    row, full = quality["widths"].index(DEMO_WIDTH), quality["widths"].index(FULL)
    figures += [
        Figure(
            "Lite0 on rendered vehicles in the demo bundle's space, self-test mAP",
            quality["mean_ap"][row][row],
            "points",
        ),
        Figure(
            "Lite0 searches rendered vehicles that the demo bundle embedded at 1.0, mAP",
            quality["mean_ap"][row][full],
            "points",
        ),
    ]
    print("written to", write_result("adopt", figures, parts))


if __name__ == "__main__":
    main()
