"""Attainment against mean expected mAP, a panel per load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overload_figures import OURS

__all__ = ["plot"]

MARKERS = {"poisson": "o", "bursty": "s", "ramp": "^"}
COLOURS = {"0.25": "#9ecae1", "0.5": "#6baed6", "0.75": "#3182bd", "1.0": "#08519c"}
OURS_COLOUR, BOUND_COLOUR = "#d95f02", "#666666"


def plot(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw all runs; static policies are joined by lines, one per pattern."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    loads = sorted({run["load"] for run in runs})
    columns = min(3, len(loads))
    rows = -(-len(loads) // columns)
    figure, panels = pyplot.subplots(
        rows, columns, figsize=(4 * columns, 3.3 * rows), sharex=True, sharey=True, squeeze=False
    )
    for load, panel in zip(loads, panels.flat, strict=False):
        for pattern, marker in MARKERS.items():
            chosen = [run for run in runs if run["load"] == load and run["pattern"] == pattern and run["quality"]]
            static = sorted((run for run in chosen if run["policy"] != OURS), key=lambda run: run["policy"])
            panel.plot(
                [100 * run["attainment"] for run in static],
                [run["quality"] for run in static],
                color="#bbbbbb",
                linewidth=0.8,
                zorder=1,
            )
            for run in chosen:
                colour = COLOURS.get(run["policy"], OURS_COLOUR)
                panel.scatter(100 * run["attainment"], run["quality"], color=colour, marker=marker, s=34, zorder=3)
                if run["bound"] is not None:
                    panel.scatter(
                        100 * run["attainment"], run["bound"], edgecolors=BOUND_COLOUR, facecolors="none",
                        marker=marker, s=34, zorder=2,
                    )  # fmt: skip
        panel.set_title(f"{load:g} × the capacity at width 1.0", fontsize=10)
        panel.grid(alpha=0.25)
    for panel in list(panels.flat)[len(loads) :]:
        panel.set_visible(False)
    figure.supxlabel("answered within the SLO, %", y=0.05)
    figure.supylabel("mean expected mAP of these")
    keys = [
        Line2D([], [], color=colour, marker="o", linestyle="", label=f"static {width}")
        for width, colour in COLOURS.items()
    ]
    keys.append(Line2D([], [], color=OURS_COLOUR, marker="o", linestyle="", label="scheduler"))
    keys.append(
        Line2D(
            [], [], color=BOUND_COLOUR, markerfacecolor="none", marker="o", linestyle="", label="clairvoyant bound"
        )
    )
    keys += [Line2D([], [], color="black", marker=m, linestyle="", label=name) for name, m in MARKERS.items()]
    figure.legend(
        handles=keys, loc="lower center", bbox_to_anchor=(0.5, 0.0), ncols=len(keys), fontsize=8, frameon=False
    )
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
