"""The tables of docs/performance.md and docs/figures.md, out of benchmarks/results."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markdown_tables import table

__all__ = ["PERFORMANCE", "measured", "plain", "result", "where"]

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
# Ends of the names of the comparisons of methods, whose goals stand beside their tables.
METHODS = ("_methods", "_long", "_short", "_one_training")


def result(name: str) -> Any:
    """One benchmark's result file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def values(found: Any) -> dict[str, dict[str, Any]]:
    """A result's figures by name."""
    return {figure["name"]: figure for figure in found["figures"]}


def where(found: Any) -> str:
    """The machine and the command."""
    machine = found["machine"]
    return f"{machine['cores']} cores ({machine['processor']}), commit {found['commit']}: `{found['command']}`"


def judged(figure: dict[str, Any]) -> list[str]:
    """Value, goal and whether it was met."""
    met = {True: "yes", False: "**no**", None: "–"}[figure["met"]]
    return [number(figure["value"]), figure["goal"] or "–", met]


def number(value: float) -> str:
    """Three digits after the point below 1, two above, none for a count of 10 and more."""
    if float(value).is_integer() and abs(value) >= 10:
        return f"{value:.0f}"
    return f"{value:.{3 if 0 < abs(value) < 1 else 2}f}"


def overhead() -> str:
    """Server over floor, case by case."""
    found = result("overhead")
    figures = values(found)
    rows = []
    for case in dict.fromkeys(name.rpartition(":")[0] for name in figures):
        parts = [f"{figures[f'{case}: {part}']['value']:.2f}" for part in ("floor", "server", "batch")]
        rate = f"{figures[f'{case}: throughput']['value']:.0f}"
        rows.append([case, *parts, rate, *judged(figures[f"{case}: server ÷ floor"])])
    header = ["case", "floor, ms", "server, ms", "batch", "images/s", "server ÷ floor", "goal", "met"]
    return f"{table(header, rows)}\n\n{where(found)}"


def peers() -> str:
    """Every figure of every server, a row per width and figure."""
    found = result("peers")
    figures = values(found)
    servers: Sequence[str] = ("sfsc", "sfsc, SFSC_SLO_MS=250", "litserve", "bentoml")
    rows = []
    for case in dict.fromkeys(name.rpartition(": ")[0] for name in figures):
        width, _, what = case.partition(", ")
        unit = figures[f"{case}: sfsc"]["unit"]
        cells = [f"{figures[f'{case}: {server}']['value']:.4g}" for server in servers]
        rows.append(
            [f"**{width}**", f"{what}, {unit}", *cells, *judged(figures[f"{case}: ours ÷ the better peer"])]
        )
    names = ["sfsc", "sfsc, 250 ms", "LitServe", "BentoML"]
    header = ["width", "figure", *names, "ours ÷ the better peer", "goal", "met"]
    return f"{table(header, rows)}\n\n{where(found)}"


def plain(name: str) -> str:
    """All figures of a benchmark."""
    found = result(name)
    rows = [[figure["name"], figure["unit"], *judged(figure)] for figure in found["figures"]]
    return f"{table(['figure', 'unit', 'measured', 'goal', 'met'], rows)}\n\n{where(found)}"


def overload() -> str:
    """The image and all figures."""
    found = result("overload")
    rows = [[figure["name"], figure["unit"], *judged(figure)] for figure in found["figures"]]
    image = "![Attainment against mean expected mAP, a panel per load](overload.png)"
    worth = found["data"].get("expected mAP of", "this bundle")
    source = "" if worth == "this bundle" else f". What a width is worth: `{worth}`"
    return f"{image}\n\n{table(['figure', 'unit', 'measured', 'goal', 'met'], rows)}\n\n{where(found)}{source}"


def goals() -> str:
    """Every figure that has a goal, of all benchmarks but the comparison of methods; similar ones in one row."""
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        name = path.stem
        figures = [figure for figure in result(name)["figures"] if figure["goal"] is not None]
        if name == "attack":
            figures = figures[:SUMMED_UP]
        if name.endswith(METHODS):
            continue
        zero = [figure for figure in figures if figure["goal"] == "<= 0" and not figure["value"]]
        rows += beside(figures) if name == "peers" else alone(name, [f for f in figures if f not in zero])
        if zero:
            rows.append([name, "; ".join(figure["name"] for figure in zero), "", "none", "none", "yes"])
    return table(["benchmark", "figure", "unit", "measured", "goal", "met"], rows)


def alone(name: str, figures: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each figure."""
    return [[name, figure["name"], figure["unit"], *judged(figure)] for figure in figures]


def beside(figures: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each figure of the peers, all widths in it."""
    rows = []
    for what in dict.fromkeys(figure["name"].partition(", ")[2] for figure in figures):
        same = [figure for figure in figures if figure["name"].endswith(f", {what}")]
        cells = [judged(figure) for figure in same]
        asked = list(dict.fromkeys(cell[1] for cell in cells))
        met = [cell[2] for cell in cells]
        widths = " / ".join(figure["name"].partition(", ")[0] for figure in same)
        together = [" / ".join(column) if len(set(column)) > 1 else column[0] for column in (asked, met)]
        rows.append(["peers", f"{what}, at {widths}", "×", " / ".join(cell[0] for cell in cells), *together])
    return rows


def measured(name: str, made: Callable[[], str]) -> Callable[[], str]:
    """A table, or how to get its result where there is none yet."""
    there = (RESULTS / f"{name}.json").exists()
    return made if there else lambda: f"No result yet: `python benchmarks/{name}.py`."


def image_memory() -> str:
    """Bytes per pixel of every kind of image, measured and reserved, and the largest that fits."""
    found = result("image-memory")
    budgets: dict[str, int] = found["data"]["budgets"]
    rows = []
    for name, one in found["data"]["images"].items():
        each, reserved = one["peak_bytes"] / one["pixels"], one["reserved_bytes"] / one["pixels"]
        fit = [f"{one['megapixels'][machine]:.0f}" for machine in budgets]
        rows.append([name, f"{each:.1f}", f"{reserved:.1f}", *fit])
    header = ["image", "bytes a pixel", "reserved", *(f"megapixels at {name}" for name in budgets)]
    return f"{table(header, rows)}\n\n{where(found)}"


def gallery_peers() -> str:
    """A row per question, a column per store, then the figures about all of them."""
    found = result("gallery_peers")
    figures = values(found)
    stores = list(found["data"]["packages"])
    rows = []
    for case in [name.rpartition(": ")[0] for name in figures if name.endswith(": ours ÷ the best other one")]:
        cells = [f"{figures[f'{case}: {store}']['value']:.4g}" for store in ("sfsc", *stores)]
        ratio = f"{figures[f'{case}: ours ÷ the best other one']['value']:.3g}"
        rows.append([f"{case}, {figures[f'{case}: sfsc']['unit']}", *cells, ratio])
    header = ["", "sfsc", *(found["data"]["packages"][store][0] for store in stores), "ours ÷ the best other one"]
    rest = [
        [figure["name"], figure["unit"], *judged(figure)]
        for name, figure in figures.items()
        if figure["goal"] is not None or name.startswith(("filters, geometric mean", "memory of", "answers"))
    ]
    return "\n\n".join(
        [table(header, rows), table(["figure", "unit", "measured", "goal", "met"], rest), where(found)]
    )


def growth() -> str:
    """The plot, and a row per figure with a column per number of items."""
    found = result("growth")
    figures = values(found)
    sizes = [f"{int(size):,} items" for size in found["data"]["sizes"]]
    asked = list(dict.fromkeys(name.partition(", ")[2] for name in figures if name.startswith(tuple(sizes))))
    rows = []
    for what in asked:
        there = [figures.get(f"{size}, {what}") for size in sizes]
        unit = next(figure["unit"] for figure in there if figure)
        rows.append([f"{what}, {unit}" if unit else what, *(growth_cell(figure) for figure in there)])
    image = "![Latency, memory, start and files against the number of items](gallery-growth.png)"
    speed = next(figure for name, figure in figures.items() if name.startswith("reading memory"))
    rows.append([f"{speed['name']}, {speed['unit']}", *[""] * (len(sizes) - 1), f"{speed['value']:.3g}"])
    return f"{image}\n\n{table(['', *sizes], rows)}\n\n{where(found)}"


SUMMED_UP = 6
"""Figures of `attack` that are of all attacks together; those of each one stand in a table of their own."""


def attack() -> str:
    """All attacks together, then a row for each."""
    found = result("attack")
    summed = [[figure["name"], figure["unit"], *judged(figure)] for figure in found["figures"][:SUMMED_UP]]
    rows = []
    for trial in found["data"]["trials"]:
        alone, harmless, beside = (trial[name]["p99_ms"] for name in ("alone", "beside_harmless", "beside"))
        times = [f"{milliseconds:.0f}" for milliseconds in (trial["beside"]["freeze_ms"], alone, harmless, beside)]
        rows.append([trial["attack"], *times, f"{beside / harmless:.2f}", f"{trial['peak_mb']:.0f}"])
    header = [
        "attack",
        "freeze, ms",
        "p99 alone, ms",
        "beside harmless",
        "beside it",
        "÷ harmless",
        "peak, MB",
    ]
    both = f"{table(['figure', 'unit', 'measured', 'goal', 'met'], summed)}\n\n{table(header, rows)}"
    return f"{both}\n\n{where(found)}"


def growth_cell(figure: dict[str, Any] | None) -> str:
    """The value, and the goal where there is one."""
    if figure is None:
        return "–"
    value = f"{figure['value']:.3g}" if figure["value"] < 1000 else f"{figure['value']:.0f}"
    if figure["goal"] is None:
        return value
    return f"{value} ({figure['goal']}: {'yes' if figure['met'] else '**no**'})"


TABLES: dict[str, Callable[[], str]] = {
    "overhead": overhead,
    "peers": peers,
    "isolation": lambda: plain("isolation"),
    "overload": overload,
    "endurance": lambda: plain("endurance"),
    "peers_sizes": lambda: plain("peers_sizes"),
    "attack": attack,
    "crowd": lambda: plain("crowd"),
    "fuzz": lambda: plain("fuzz"),
    "decode": lambda: plain("decode"),
    "gallery_peers": gallery_peers,
    "growth": growth,
    "gallery_load": lambda: plain("gallery_load"),
    "idle_work": lambda: plain("idle_work"),
    "image-memory": image_memory,
}
PERFORMANCE = {name: measured(name, made) for name, made in TABLES.items()} | {"goals": goals}
