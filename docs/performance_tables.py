"""The tables of docs/performance.md and the README's of the serving engine, out of benchmarks/results."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markdown_tables import table

__all__ = ["PERFORMANCE"]

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


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
    digits = 3 if 0 < abs(figure["value"]) < 1 else 2
    return [f"{figure['value']:.{digits}f}", figure["goal"] or "–", met]


def overhead() -> str:
    """Server over floor, case by case."""
    found = result("overhead")
    figures = values(found)
    rows = []
    for case in dict.fromkeys(name.rpartition(":")[0] for name in figures):
        parts = [f"{figures[f'{case}: {part}']['value']:.2f}" for part in ("floor", "server", "batch")]
        rate = f"{figures[f'{case}: throughput']['value']:.0f}"
        rows.append([case, *parts, rate, *judged(figures[f"{case}: server ÷ floor"])])
    header = ["case", "floor, ms", "server, ms", "batch", "images/s", "server ÷ floor", "asked", "met"]
    return f"{table(header, rows)}\n\n{where(found)}"


def peers() -> str:
    """Every figure of every server, a row per width and figure."""
    found = result("peers")
    figures = values(found)
    servers: Sequence[str] = ("sfsc", "litserve", "bentoml")
    rows = []
    for case in dict.fromkeys(name.rpartition(": ")[0] for name in figures):
        width, _, what = case.partition(", ")
        unit = figures[f"{case}: sfsc"]["unit"]
        cells = [f"{figures[f'{case}: {server}']['value']:.4g}" for server in servers]
        rows.append(
            [f"**{width}**", f"{what}, {unit}", *cells, *judged(figures[f"{case}: ours ÷ the better peer"])]
        )
    header = ["width", "figure", "sfsc", "LitServe", "BentoML", "ours ÷ the better peer", "asked", "met"]
    return f"{table(header, rows)}\n\n{where(found)}"


def plain(name: str) -> str:
    """All figures of a benchmark."""
    found = result(name)
    rows = [[figure["name"], figure["unit"], *judged(figure)] for figure in found["figures"]]
    return f"{table(['figure', 'unit', 'measured', 'asked', 'met'], rows)}\n\n{where(found)}"


def overload() -> str:
    """The image and all figures."""
    found = result("overload")
    rows = [[figure["name"], figure["unit"], *judged(figure)] for figure in found["figures"]]
    image = "![Attainment against mean expected mAP, a panel per load](overload.png)"
    return f"{image}\n\n{table(['figure', 'unit', 'measured', 'asked', 'met'], rows)}\n\n{where(found)}"


def serving() -> str:
    """Every figure of the serving engine that something was asked of; the like of each other in one row."""
    rows = []
    for name in ("overhead", "peers", "isolation", "overload", "endurance"):
        if (RESULTS / f"{name}.json").exists():
            figures = [figure for figure in result(name)["figures"] if figure["goal"] is not None]
            nothing = [figure for figure in figures if figure["goal"] == "<= 0" and not figure["value"]]
            rows += beside(figures) if name == "peers" else alone(name, [f for f in figures if f not in nothing])
            if nothing:
                rows.append([name, "; ".join(figure["name"] for figure in nothing), "", "none", "none", "yes"])
    return table(["benchmark", "figure", "unit", "measured", "asked", "met"], rows)


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


TABLES: dict[str, Callable[[], str]] = {
    "overhead": overhead,
    "peers": peers,
    "isolation": lambda: plain("isolation"),
    "overload": overload,
    "endurance": lambda: plain("endurance"),
}
PERFORMANCE = {name: measured(name, made) for name, made in TABLES.items()} | {"serving": serving}
