"""`photos` with its defaults on four sets of somebody else's images, against the untouched network, over HTTP.

    python benchmarks/photos.py grocery-store        # or grey, few-images, few-identities, or all

- grocery-store: colour photographs as they are;
- grey: the same in grey;
- few-images: omniglot28 cut to 5 images per identity;
- few-identities: 12 rendered vehicles to train on, 40 others to test on.

Every step is the command that a user types, with no option but the folders. Self-tests are computed from the
answers of the service: the gallery inserted at a width, the queries sent at the same one. Without --work the runs
go to runs/photos; an interrupted run is resumed.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from rich.progress import track

from live_service import serving
from main_job import command, insert, search_all, timed, unpack
from result_file import Figure, write_result
from sfsc_bundle.folder import open_bundle
from sfsc_bundle.retrieval import Scores
from sfsc_training.config import load_recipe
from sfsc_training.data.dataset import Split
from sfsc_training.data.reader import read_folder
from sfsc_vehicles import write_splits

IMAGES_KEPT = 5
IDENTITIES_KEPT = 12
# grocery-store: what training from nothing gives in half an hour on two cores (a ResNet-10, `bct-s`, 96 px); and
# at full width more than the frozen network with its closed-form map, 50.5 and 69.8.
FROM_NOTHING = {"0.25": 43.6, "0.5": 46.5, "0.75": 49.1}
GOAL_MEAN_AP, GOAL_RANK1 = 53, 72


def main() -> None:
    """Train, export and serve on each of the sets asked for, and write a result for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=[*SETS, "all"])
    parser.add_argument("--work", type=Path, default=Path("runs/photos"), help="folder for sets, runs and bundles")
    arguments = parser.parse_args()
    for name in SETS if arguments.set == "all" else [arguments.set]:
        measure(name, arguments.work)


def measure(name: str, work: Path) -> None:
    """The whole job on one set."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    data, run, bundle = SETS[name](work), folder / "run", folder / "bundle"
    train(data, run, folder / "seconds.json")
    command("sfsc-train", "evaluate", run, "--data", data)
    command("sfsc-train", "export", run, "--data", data, "--to", bundle, "--replace")
    recipe = load_recipe("photos")
    split = read_folder(data, recipe.data, recipe.seed).test
    found: dict[str, Scores] = {}
    with serving(bundle, folder, len(split.gallery)) as client:
        for width in open_bundle(bundle).manifest.widths:
            insert(client, split, dict.fromkeys((split.names[place] for place in split.gallery), width))
            found[width] = search_all(client, split, width)
    publish(name, run, bundle, split, found, json.loads((folder / "seconds.json").read_text()))


def train(data: Path, run: Path, seconds: Path) -> None:
    """Train or resume, and add up how long it took."""
    spent: dict[str, float] = {}
    with timed(spent, "train"):
        command("sfsc-train", "train", "photos", "--data", data, "--out", run)
    before = json.loads(seconds.read_text()) if seconds.is_file() else 0.0
    seconds.write_text(json.dumps(before + spent["train"]))


def grocery_store(work: Path) -> Path:
    """The colour photographs."""
    return unpack("grocery-store", work)


def grey(work: Path) -> Path:
    """The same photographs in grey."""

    def save(source: Path, target: Path) -> None:
        with Image.open(source) as image:
            image.convert("L").save(target, quality=95)

    return derived(grocery_store(work), work / "grey" / "data", save)


def few_images(work: Path) -> Path:
    """The first images of every character."""
    return derived(unpack("omniglot28", work), work / "few-images" / "data", shutil.copyfile, IMAGES_KEPT)


def few_identities(work: Path) -> Path:
    """A few rendered vehicles to train on, others to test on."""
    folder = work / "few-identities" / "data"
    if not folder.is_dir():
        write_splits(
            folder,
            0,
            train=IDENTITIES_KEPT,
            test=40,
            shots=4,
            size=96,
            twin_share=0,
            workers=1,
            progress=lambda _: None,
        )
    return folder


def derived(source: Path, target: Path, save: Callable[[Path, Path], object], images: int | None = None) -> Path:
    """A copy of a set with every image saved by `save`, only the first `images` of an identity where given."""
    if target.is_dir():
        return target
    unfinished = target.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for identity in track(sorted(source.glob("*/*/")), f"preparing {target.parent.name}"):
        folder = unfinished / identity.relative_to(source)
        folder.mkdir(parents=True)
        for image in sorted(path for path in identity.iterdir() if path.is_file())[:images]:
            save(image, folder / image.name)
    unfinished.rename(target)
    return target


def publish(name: str, run: Path, bundle: Path, split: Split, found: dict[str, Scores], seconds: float) -> None:
    """Compare with the untouched network and write the result."""
    recipe, evaluation = load_recipe("photos"), json.loads((run / "evaluation-test.json").read_text())
    untouched, mapped = evaluation["untouched"], evaluation["untouched"]["mapped"]
    gain = round(found["1.0"].mean_ap - untouched["mean_ap"], 2)  # ONNX and torch differ in the last digits
    figures = [
        Figure("untouched network: mAP", untouched["mean_ap"], "points"),
        Figure("untouched network: rank-1", untouched["rank1"], "points"),
        *([] if mapped is None else [Figure("untouched network with a map: mAP", mapped["mean_ap"], "points")]),
        *([] if mapped is None else [Figure("untouched network with a map: rank-1", mapped["rank1"], "points")]),
        *(
            Figure(f"mAP over HTTP at {at}", score.mean_ap, "points", goal(name, at))
            for at, score in found.items()
        ),
        *(
            Figure(f"rank-1 over HTTP at {at}", score.rank1, "points", rank1_goal(name, at))
            for at, score in found.items()
        ),
        Figure("mAP over HTTP at 1.0 − the untouched network's", gain, "points", ">= 0"),
        Figure("time: train, all its runs", seconds, "s", "<= 1800" if name == "grocery-store" else None),
    ]
    data = {
        "evaluation": evaluation,
        "http": {width: {"mean_ap": score.mean_ap, "rank1": score.rank1} for width, score in found.items()},
        "recipe": recipe.model_dump(mode="json"),
        "provenance": open_bundle(bundle).manifest.provenance.kind,
        "steps": evaluation["step"],
        "images_per_s": [
            json.loads(line)["images_per_s"] for line in (run / "history.jsonl").read_text().splitlines()
        ],
        "identities": len(split.identities),
        "images": len(split.paths),
    }
    print("written to", write_result(f"photos_{name}", figures, data, seed=recipe.seed))


def goal(name: str, width: str) -> str | None:
    """What mAP a width is to reach: on the photographs as they are, more than training from nothing gives."""
    if name != "grocery-store":
        return None
    return f">= {GOAL_MEAN_AP}" if width == "1.0" else f"> {FROM_NOTHING[width]}"


def rank1_goal(name: str, width: str) -> str | None:
    """What rank-1 the widest is to reach on the photographs as they are."""
    return f">= {GOAL_RANK1}" if (name, width) == ("grocery-store", "1.0") else None


SETS: dict[str, Callable[[Path], Path]] = {
    "grocery-store": grocery_store,
    "grey": grey,
    "few-images": few_images,
    "few-identities": few_identities,
}


if __name__ == "__main__":
    main()
