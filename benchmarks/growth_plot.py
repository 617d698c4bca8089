"""Latency, memory, start and files against the number of items, each beside what limits it."""

from collections.abc import Callable, Mapping
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
    figure, ((latency, memory), (start, files)) = pyplot.subplots(2, 2, figsize=(11, 7.6), sharex=True)

    def line(panel: Any, kind: str, label: str, colour: str, value: Callable[[Mapping[str, Any]], float]) -> None:
        """A value of what was measured of a kind, for the sizes of which it was."""
        found = {size: value(runs[size][kind]) for size in sizes if kind in runs[size]}
        if found:
            panel.plot(list(found), list(found.values()), color=colour, marker="o", markersize=4, label=label)

    def limit(panel: Any, label: str, an_item: float, style: str = ":") -> None:
        panel.plot(
            sizes, [an_item * n for n in sizes], label=label, linestyle=style, color="#888888", linewidth=1.2
        )

    for kind in scanned:
        colour = COLOURS[kind]
        line(latency, kind, f"one search, {kind}", colour, lambda run: run["search"]["ms"])
        line(memory, kind, f"peak, {kind}", colour, lambda run: (run["peak"] - run["columns"]["bytes"]) / 1e6)
    line(latency, "exact", "exact, a filter that keeps 5 %", COLOURS["filter"], lambda run: run["filter"]["ms"])
    line(latency, "exact", "one item by its id", COLOURS["item"], lambda run: run["get"]["ms"])
    limit(latency, "BLAS reads the vectors", 1e3 * scanned["exact"] / bytes_a_second)
    line(memory, "exact", "columns for filters", COLOURS["filter"], lambda run: run["columns"]["bytes"] / 1e6)
    limit(memory, "8-bit vectors", min(scanned.values()) / 1e6)
    line(
        start,
        "starts",
        "until the first right hit",
        COLOURS["exact"],
        lambda run: median(one["s"] for one in run["runs"]),
    )
    for kind in scanned:
        if kind != "exact":
            line(
                start,
                kind,
                f"until {kind} is ready, in the background",
                COLOURS[kind],
                lambda run: run["tier"]["s"],
            )
    line(start, "exact", "of it, reading the database's rows", COLOURS["item"], lambda run: run["rows"]["s"])
    limit(start, "BLAS reads the vectors", scanned["exact"] / bytes_a_second)
    line(files, "fill", "vectors", COLOURS["exact"], lambda run: run["vector_bytes"] / 1e6)
    line(files, "fill", "database", COLOURS["ivf"], lambda run: run["database_bytes"] / 1e6)
    limit(files, "limit: 4 bytes a component", scanned["exact"] / 1e6)
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
