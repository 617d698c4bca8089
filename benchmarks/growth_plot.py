"""Latency, memory, start and files against the number of items, each beside what limits it."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["plot"]

COLOURS = {"exact": "#08519c", "int8": "#6baed6", "ivf": "#d95f02", "filter": "#31a354", "item": "#756bb1"}


def plot(
    runs: Mapping[int, Mapping[str, Any]], scanned: Mapping[str, int], bytes_a_second: float, path: Path
) -> None:
    """Four panels, both axes logarithmic.

    Args:
        runs: by number of items, what benchmarks/growth.py measured.
        scanned: bytes an item of each kind of search.
        bytes_a_second: how fast memory is read.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = sorted(runs)
    kinds = [kind for kind in scanned if kind in runs[sizes[0]]]
    figure, ((latency, memory), (start, files)) = pyplot.subplots(2, 2, figsize=(11, 7.6), sharex=True)

    def line(panel: Any, values: list[float], label: str, colour: str) -> None:
        panel.plot(sizes, values, color=colour, marker="o", markersize=4, label=label)

    def limit(panel: Any, values: list[float], label: str, style: str = ":") -> None:
        panel.plot(sizes, values, label=label, linestyle=style, color="#888888", linewidth=1.2)

    for kind in kinds:
        line(latency, [runs[n][kind]["search"]["ms"] for n in sizes], f"one search, {kind}", COLOURS[kind])
        peak = [(runs[n][kind]["peak"] - runs[n][kind]["columns"]["bytes"]) / 1e6 for n in sizes]
        line(memory, peak, f"peak, {kind}", COLOURS[kind])
    if "exact" in kinds:
        exact = [runs[n]["exact"] for n in sizes]
        line(latency, [run["filter"]["ms"] for run in exact], "exact, a filter that keeps 5 %", COLOURS["filter"])
        line(latency, [run["get"]["ms"] for run in exact], "one item by its id", COLOURS["item"])
        line(memory, [run["columns"]["bytes"] / 1e6 for run in exact], "columns for filters", COLOURS["filter"])
        limit(start, [run["rows"]["s"] for run in exact], "limit: the database's rows are read", "--")
    limit(latency, [1e3 * scanned["exact"] * n / bytes_a_second for n in sizes], "limit: memory is read once")
    limit(memory, [min(scanned.values()) * n / 1e6 for n in sizes], "8-bit vectors")
    limit(start, [scanned["exact"] * n / bytes_a_second for n in sizes], "limit: the vectors are read once")
    first = [median(run["s"] for run in runs[n]["starts"]["runs"]) for n in sizes]
    line(start, first, "until the first right hit", COLOURS["exact"])
    for kind in kinds:
        if kind != "exact":
            ready = [runs[n][kind]["tier"]["s"] for n in sizes]
            line(start, ready, f"until {kind} is ready, in the background", COLOURS[kind])
    line(files, [runs[n]["fill"]["vector_bytes"] / 1e6 for n in sizes], "vectors", COLOURS["exact"])
    line(files, [runs[n]["fill"]["database_bytes"] / 1e6 for n in sizes], "database", COLOURS["ivf"])
    limit(files, [scanned["exact"] * n / 1e6 for n in sizes], "limit: 4 bytes a component")
    titles = {latency: "latency, ms", memory: "anonymous memory, MB", start: "start, s", files: "files, MB"}
    for panel, title in titles.items():
        panel.set_title(title, fontsize=10)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7.5, frameon=False)
    figure.supxlabel("items")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
