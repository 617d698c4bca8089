"""The tables of the README and of docs/, out of benchmarks/results and the demo bundle's manifest."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markdown_tables import table
from recipe_keys import recipe_keys

__all__ = ["TABLES"]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LITE0_ON_VEHICLES = "Lite0 searches rendered vehicles that the demo bundle embedded at 1.0, mAP"


def result(name: str) -> Any:
    """One benchmark's result file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def matrix(widths: Sequence[str], cells: Sequence[Sequence[float]]) -> str:
    """Query width × gallery width, in points."""
    rows = [[f"**{width}**", *(f"{cell:.1f}" for cell in row)] for width, row in zip(widths, cells, strict=True)]
    return table(["query \\ gallery", *widths], rows)


def demo_matrix() -> str:
    """The demo bundle's rank-1 matrix beside what each width costs and reaches in a gallery of all widths."""
    manifest = json.loads((ROOT / "models" / "demo" / "manifest.json").read_text())
    quality = manifest["quality"]
    rows = []
    mixed = zip(quality["mixed"]["rank1"], quality["mixed"]["rank1_spread"], strict=True)
    for submodel, row, both in zip(manifest["submodels"], quality["rank1"], mixed, strict=True):
        cost = [f"{2e-6 * submodel['macs']:.0f} MFLOP", f"{submodel['parameters'] / 1e6:.2f} M"]
        rows.append([f"**{submodel['width']}**", *cost, *(f"{cell:.1f}" for cell in row), spread(both)])
    galleries = (f"gallery {name}" for name in [*quality["widths"], "mixed"])
    return table(["query width", "cost", "parameters", *galleries], rows)


def adopted() -> str:
    """Two networks that were trained elsewhere: each alone, together, and one that joined the other's bundle."""
    found = result("adopt")
    data = found["data"]
    narrow, full = data["alone"]
    pairs = [(narrow, narrow), (narrow, full), (full, narrow), (full, full)]
    alone = [f"{data['alone'][query]['mean_ap']:.1f}" if query == gallery else "–" for query, gallery in pairs]
    rows = [["each as it came, in a gallery of its own", *alone]]
    for title, part in (("two widths of one bundle", "pair"), (f"{narrow} joined a bundle in use", "base")):
        cells = [data[part]["http"][gallery][query]["mean_ap"] for query, gallery in pairs]
        rows.append([title, *(f"{cell:.1f}" for cell in cells)])
    (vehicles,) = (figure["value"] for figure in found["figures"] if figure["name"] == LITE0_ON_VEHICLES)
    return (
        f"{table(['mAP', *(f'{query} searches {gallery}' for query, gallery in pairs)], rows)}\n\n"
        "EfficientNet-Lite0, which never saw a rendered vehicle, joined to the demo bundle: it searches what\n"
        f"that bundle embedded at 1.0 with {vehicles:.1f} mAP."
    )


def main_job(name: str) -> str:
    """Both sides of the main job on one data set."""
    found = result(f"main_job_{name}")
    evaluated, http = found["data"]["evaluation"], found["data"]["http"]
    mixed = []
    for width, here in evaluated["mixed"].items():
        both = [side[figure] for figure in ("mean_ap", "rank1") for side in (here, http[width])]
        mixed.append([f"**{width}**", *(f"{value:.2f}" for value in both)])
    header = ["query width", "mAP, evaluation", "mAP, over HTTP", "rank-1, evaluation", "rank-1, over HTTP"]
    return (
        f"mAP in points ({evaluated['protocol']}):\n\n{matrix(evaluated['widths'], evaluated['mean_ap'])}\n\n"
        f"rank-1:\n\n{matrix(evaluated['widths'], evaluated['rank1'])}\n\n"
        f"A gallery whose items were embedded at widths drawn at random:\n\n{table(header, mixed)}"
    )


def main_job_time(name: str) -> str:
    """How long the parts of the main job took, and where."""
    found = result(f"main_job_{name}")
    times = [figure for figure in found["figures"] if figure["unit"] == "s"]
    parts = ", ".join(f"{figure['name'].removeprefix('time: ')} {figure['value']:.0f} s" for figure in times)
    machine = found["machine"]
    where = f"{machine['cores']} cores ({machine['processor']})"
    return f"{parts}, on {where}, seed {found['seed']}: `{found['command']}`"


def validation_trials(name: str) -> str:
    """What was tried on validation identities, best first."""
    trials = [json.loads(path.read_text()) for path in (RESULTS / f"{name}-validation").glob("*.json")]
    rows = []
    for trial in sorted(trials, key=lambda trial: -trial["figures"][0]["value"]):
        evaluation, recipe = trial["data"]["evaluation"], trial["data"]["recipe"]
        own = {width: evaluation["mean_ap"][i][i] for i, width in enumerate(recipe["widths"])}
        diagonal = [f"{own[width]:.1f}" if width in own else "–" for width in (0.25, 0.5, 0.75, 1.0)]
        rows.append([f"`{recipe['name']}`", f"{trial['figures'][0]['value']:.1f}", *diagonal])
    steps = trials[0]["data"]["recipe"]["optimiser"]["steps"]
    return table([f"trial ({steps} steps, one seed)", "mean of the matrix", "0.25", "0.5", "0.75", "1.0"], rows)


def comparison(name: str) -> str:
    """The methods of one comparison: means over the seeds, ± their standard deviation."""
    runs = result(name)["data"]["runs"]
    rows = []
    for label, run in runs.items():
        diagonal = [f"{run['matrix'][i][i]:.1f}" for i in range(len(run["matrix"]))]
        conflicts = "–" if run["conflicts"] is None else f"{100 * run['conflicts']:.1f} %"
        both = [spread(run[key]) for key in ("mean", "self", "cross")]
        ac = "–" if run["ac"] is None else f"{run['ac'][0]:.2f}"
        rows.append([f"`{label}`", str(len(run["seeds"])), *both, ac, " / ".join(diagonal), conflicts])
    header = ["method", "seeds", "mean of the matrix", "self-tests", "cross-tests", "AC", "self-test by width"]
    return table([*header, "conflicting pairs"], rows)


def alignments(name: str) -> str:
    """What alignment makes of each method: means over the seeds."""
    rows = []
    for label, run in result(name)["data"]["runs"].items():
        if run["gaps"] is None or len(run["gaps"]) == 1:
            continue
        gaps = " / ".join(f"{gap:.2f}" for gap in run["gaps"])
        means = [spread(run[key]) for key in ("raw", "mean", "mixed")]
        rows.append([f"`{label}`", str(len(run["seeds"])), *means, gaps])
    header = ["method", "seeds", "matrix as trained", "matrix aligned", "mixed gallery aligned"]
    return table([*header, "mixed gallery − its row's mean, by query width"], rows)


def one_training() -> str:
    """The runs of one training against two, the best on validation identities first: means over the seeds."""
    runs = result("omniglot28_one_training")["data"]["runs"]
    rows = []
    for label, run in sorted(runs.items(), key=lambda item: -item[1]["validation"]):
        share = run["training_macs"] / runs["one-sfsc"]["training_macs"]
        mixed = run["mixed"] if len(run["widths"]) > 1 else None
        means = [f"{run['validation']:.1f}", *(spread(values) for values in (run["raw"], run["mean"], mixed))]
        ends = {width: run["matrix"][place][place] for place, width in enumerate(run["widths"])}
        tests = [f"{ends[width]:.1f}" if width in ends else "–" for width in ("0.25", "1.0")]
        rows.append([f"`{label}`", f"{run['rate']:g}", str(run["steps"]), f"{share:.2f}", *means, *tests])
    header = ["run", "rate", "steps", "arithmetic", "validation", "as trained", "aligned", "mixed gallery"]
    return table([*header, "self-test 0.25", "1.0"], rows)


def gpu_steps() -> str:
    """A training step on a GPU against its plain passes, and against the step without a CUDA graph."""
    found = [
        figure
        for name in ("gpu_cuda_training", "gpu_cuda_training_short")
        for figure in result(name)["figures"]
        if figure["unit"] in ("ms", "×", "images/s")
    ]
    cases: dict[str, dict[str, dict[str, Any]]] = {}
    for figure in found:
        case, _, what = figure["name"].rpartition(": ")
        cases.setdefault(case, {})[what] = figure
    columns = {
        "SFSC step": "step, ms",
        "sum of 4 plain passes": "plain passes, ms",
        "SFSC step / sum of plain passes": "step ÷ passes",
        "images per second, over those without a graph": "× without a graph",
        "SFSC": "images/s",
    }
    rows = []
    for case, figures in cases.items():
        values = [f"{figures[what]['value']:.{0 if what == 'SFSC' else 2}f}" for what in columns]
        marks = [" (missed)" if figures[what]["met"] is False else "" for what in columns]
        rows.append([case, *(value + mark for value, mark in zip(values, marks, strict=True))])
    return table(["network", *columns.values()], rows)


def on_both_splits(name: str) -> str:
    """Runs that were scored on validation identities, too: means over the seeds."""
    rows = []
    for label, run in result(name)["data"]["runs"].items():
        means = [f"{run['validation']:.1f}", *(spread(run[key]) for key in ("raw", "mean", "mixed"))]
        diagonal = " / ".join(f"{run['matrix'][i][i]:.1f}" for i in range(len(run["matrix"])))
        rows.append([f"`{label}`", *means, diagonal, f"{100 * run['conflicts']:.0f} %"])
    header = ["run", "validation", "as trained", "aligned", "mixed gallery", "self-test by width"]
    return table([*header, "conflicting pairs"], rows)


def photo_trials() -> str:
    """The trials for the recipe photos: means over the draws."""
    found = {figure["name"]: figure["value"] for figure in result("photos_validation")["figures"]}
    names = dict.fromkeys(name.rpartition(": ")[0] for name in found)
    columns = ("mean of the matrix", "mixed gallery", "self-test at 1.0", "untouched network")
    rows = [[name, *(f"{found[f'{name}: {column}']:.1f}" for column in columns)] for name in names]
    return table(["trial", *columns], rows)


def differences(name: str) -> str:
    """SFSC beside BCT-S in every setting of the robustness sweep: mean of the matrix."""
    runs = result(name)["data"]["runs"]
    rows = []
    settings = (label.removesuffix("-bct-s") for label in runs if label.endswith("-bct-s"))
    for setting in (name for name in settings if f"{name}-sfsc" in runs):
        base, sfsc = (runs[f"{setting}-{method}"] for method in ("bct-s", "sfsc"))
        theirs, ours = base["mean"][0], sfsc["mean"][0]
        rows.append([setting, str(sfsc["steps"]), f"{theirs:.1f}", f"{ours:.1f}", f"{ours - theirs:+.1f}"])
    return table(["setting", "steps", "BCT-S", "SFSC", "SFSC − BCT-S"], rows)


def generations(name: str, run: str) -> str:
    """mAP over the widths of two generations, rows query and columns gallery."""
    path = RESULTS / f"{name}-generations" / f"{run}-seed0-test.json"
    found = json.loads(path.read_text())["data"]["evaluation"]["generations"]
    rows = [
        [f"**{width}**", *(f"{value:.1f}" for value in values)]
        for width, values in zip(found["widths"], found["mean_ap"], strict=True)
    ]
    return table(["query \\ gallery", *found["widths"]], rows)


def asked(name: str) -> str:
    """Figures of a benchmark, asked against obtained."""
    signs = {True: "yes", False: "**no**", None: "–"}
    rows = [
        [
            figure["name"],
            (figure["goal"] or "–").replace("<", "\\<"),
            f"{figure['value']:.2f}",
            signs[figure["met"]],
        ]
        for figure in result(name)["figures"]
    ]
    return table(["figure", "asked", "obtained", "met"], rows)


def spread(values: Sequence[float] | None) -> str:
    """Mean ± standard deviation."""
    return "–" if not values else " ± ".join(f"{value:.1f}" for value in values)


TABLES = {
    "recipe-keys": recipe_keys,
    "validation-omniglot28": lambda: validation_trials("omniglot28"),
    "methods-omniglot28": lambda: comparison("omniglot28_methods"),
    "methods-omniglot28-asked": lambda: asked("omniglot28_methods"),
    "generations-omniglot28": lambda: generations("omniglot28", "omniglot28-next"),
    "long-omniglot28": lambda: comparison("omniglot28_long"),
    "long-omniglot28-asked": lambda: asked("omniglot28_long"),
    "one-training": one_training,
    "one-training-asked": lambda: asked("omniglot28_one_training"),
    "short-omniglot28": lambda: comparison("omniglot28_short"),
    "packaged-omniglot28": lambda: comparison("omniglot28_packaged"),
    "aligned-omniglot28": lambda: alignments("omniglot28_packaged"),
    "aligned-grocery-store": lambda: alignments("grocery-store_methods"),
    "aligned-vehicles": lambda: alignments("vehicles_methods"),
    "photo-trials": photo_trials,
    "gpu-steps": gpu_steps,
    "pretrained": lambda: on_both_splits("photos_rates"),
    "pretrained-asked": lambda: asked("photos_rates"),
    "rates-omniglot28": lambda: on_both_splits("omniglot28_rates"),
    "pretrained-short": lambda: on_both_splits("grocery-store_pretrained"),
    "pretrained-short-asked": lambda: asked("grocery-store_pretrained"),
    "photos-long": lambda: on_both_splits("photos_long"),
    "photos-long-asked": lambda: asked("photos_long"),
    "methods-grocery-store": lambda: comparison("grocery-store_methods"),
    "methods-vehicles": lambda: comparison("vehicles_methods"),
    "robustness-omniglot28": lambda: differences("omniglot28_robustness"),
    "alignment-grocery-store": lambda: asked("alignment_grocery-store"),
    "alignment-omniglot28": lambda: asked("alignment_omniglot28"),
    "demo-matrix": demo_matrix,
    "adopted": adopted,
    "main-job-omniglot28": lambda: main_job("omniglot28"),
    "main-job-grocery-store": lambda: main_job("grocery-store"),
    "main-job-omniglot28-time": lambda: main_job_time("omniglot28"),
    "main-job-grocery-store-time": lambda: main_job_time("grocery-store"),
}
