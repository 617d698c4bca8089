"""The figures of a report, drawn by matplotlib without its global state."""

import io
from collections.abc import Mapping, Sequence
from itertools import takewhile
from statistics import fmean, stdev

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from sfsc_training.results import Result

__all__ = [
    "conflict_curve",
    "cost_curve",
    "curves",
    "heat_maps",
    "mean_matrix",
    "mixed_curve",
    "png",
    "validation_curve",
]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#222222", "#999999")
_LINES = ("-", "--", ":")  # the next one once all colours are used
_MARKERS = "os^Dv<>Pp*"
_STRETCHES = 20  # a step has few pairs of widths (6 of 4), so shares are averaged over stretches of steps


def heat_maps(groups: Mapping[str, Sequence[Result]]) -> Figure:
    """The matrix of mAP of each group, mean over its seeds, in one scale of colours."""
    shown = {name: results for name, results in groups.items() if len(results[0].recipe.widths) > 1}
    columns = min(3, max(1, len(shown)))
    rows = -(-len(shown) // columns) or 1
    figure = Figure(figsize=(3.9 * columns, 3.5 * rows), layout="constrained")
    values = {name: mean_matrix(results) for name, results in shown.items()}
    cells = [cell for matrix in values.values() for row in matrix for cell in row] or [0.0, 1.0]
    scale = Normalize(min(cells), max(cells))
    for place, (name, matrix) in enumerate(values.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        mean = fmean(cell for row in matrix for cell in row)
        _heat_map(axes, f"{name}, mean {mean:.1f}", matrix, shown[name][0].recipe.width_names, scale)
    return figure


def _heat_map(
    axes: Axes, title: str, matrix: Sequence[Sequence[float]], widths: Sequence[str], scale: Normalize
) -> None:
    axes.imshow(matrix, cmap="viridis", norm=scale)
    axes.set_title(title, fontsize=9)
    axes.set_xticks(range(len(widths)), widths)
    axes.set_yticks(range(len(widths)), widths)
    axes.set_xlabel("gallery width")
    axes.set_ylabel("query width")
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            bright = scale(value) > 0.6
            axes.text(j, i, f"{value:.1f}", ha="center", va="center", color="black" if bright else "white")


def cost_curve(groups: Mapping[str, Sequence[Result]]) -> Figure:
    """mAP of each width against itself over its cost per image; bars are the standard deviation over the seeds."""
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.add_subplot()
    costs: set[float] = set()
    for place, (name, results) in enumerate(_by_short_name(groups).items()):
        cost = [2e-9 * value for value in results[0].macs]
        costs.update(cost)
        diagonal = [[result.mean_ap[i][i] for result in results] for i in range(len(cost))]
        axes.errorbar(
            cost,
            [fmean(values) for values in diagonal],
            [stdev(values) if len(values) > 1 else 0.0 for values in diagonal],
            marker=_MARKERS[place % len(_MARKERS)],
            color=_COLOURS[place % len(_COLOURS)],
            linestyle=_line(place),
            capsize=3,
            label=name,
        )
    axes.set_xscale("log")
    if len(costs) <= 8:
        axes.set_xticks(sorted(costs), [f"{value:.3g}" for value in sorted(costs)])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("GFLOP an image, two per multiply-accumulate (log)")
    axes.set_ylabel("mAP, query and gallery at this width")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def mixed_curve(groups: Mapping[str, Sequence[Result]]) -> Figure:
    """mAP, mean over query widths, by the share of full width in the gallery; the rest has the narrowest."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, results) in enumerate(_by_short_name(groups).items()):
        found = [result.mixed for result in results if result.mixed is not None]
        points = [
            (share, fmean(row)) for one in found for share, row in zip(one["shares"], one["curve"], strict=True)
        ]
        shares = sorted({share for share, _ in points})
        if points:
            axes.plot(
                [100 * share for share in shares],
                [fmean(value for at, value in points if at == share) for share in shares],
                color=_COLOURS[place % len(_COLOURS)],
                linestyle=_line(place),
                marker=_MARKERS[place % len(_MARKERS)],
                label=name,
            )
    axes.set_xlabel("gallery items of full width, %")
    axes.set_ylabel("mAP, mean over query widths")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def curves(groups: Mapping[str, Sequence[Result]]) -> dict[str, Figure]:
    """Curves over training: of all seeds conflicts and looks of early stopping; the others of the first."""
    figures = {"conflicts": conflict_curve(groups)}
    if any("validation" in entry for results in groups.values() for r in results for entry in r.history):
        figures["validation"] = validation_curve(groups)
    for key, label in (("gradient_norm", "‖g‖"), ("uncertainty", "mean u"), ("loss", "loss")):
        shown = {name: results[0] for name, results in groups.items() if any(e[key] for e in results[0].history)}
        if shown:
            figures[key] = _per_width(shown, key, label)
    return figures


def conflict_curve(groups: Mapping[str, Sequence[Result]]) -> Figure:
    """Share of conflicting pairs of widths in each of 20 stretches of the training, mean over steps and seeds."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, results) in enumerate(_by_short_name(groups).items()):
        recipe = results[0].recipe
        entries = [entry for result in results for entry in result.history]
        if len(recipe.widths) > 1 and not recipe.network.separate and entries:
            last = max(entry["step"] for entry in entries) + 1
            parts: dict[int, list[float]] = {}
            for entry in entries:
                parts.setdefault(_STRETCHES * entry["step"] // last, []).append(100 * entry["conflicts"])
            axes.plot(
                [last * (part + 0.5) / _STRETCHES for part in sorted(parts)],
                [fmean(parts[part]) for part in sorted(parts)],
                color=_COLOURS[place % len(_COLOURS)],
                linestyle=_line(place),
                marker=".",
                label=name,
            )
    axes.set_xlabel("step")
    axes.set_ylabel("conflicting pairs of widths, %")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if axes.lines:
        figure.legend(loc="outside right upper", fontsize=8)
    return figure


def validation_curve(groups: Mapping[str, Sequence[Result]]) -> Figure:
    """What early stopping found on validation identities after each of its looks: a line for each seed."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, results) in enumerate(_by_short_name(groups).items()):
        looks = [[(e["step"] + 1, e["validation"]) for e in r.history if "validation" in e] for r in results]
        for number, found in enumerate(filter(None, looks)):
            axes.plot(
                *zip(*found, strict=True),
                color=_COLOURS[place % len(_COLOURS)],
                linestyle=_line(place),
                marker=_MARKERS[place % len(_MARKERS)],
                label="" if number else name,  # one entry of the legend for all seeds
            )
    axes.set_xlabel("step")
    axes.set_ylabel("mAP on validation identities,\nmean of the narrowest and the widest width")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _per_width(shown: Mapping[str, Result], key: str, label: str) -> Figure:
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.9 * columns, 2.9 * rows), layout="constrained")
    first: Axes | None = None
    for place, (name, result) in enumerate(shown.items()):
        axes = figure.add_subplot(rows, columns, place + 1, sharey=first)
        first = first or axes
        for number, width in enumerate(result.recipe.width_names):
            points = [(entry["step"], entry[key][width]) for entry in result.history if width in entry[key]]
            if points:
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, color=_COLOURS[number % len(_COLOURS)], label=width)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        if key != "loss":
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(_plain))
            axes.yaxis.set_minor_formatter(FuncFormatter(_sparse))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, title="width", title_fontsize=7)
    return figure


def _by_short_name(groups: Mapping[str, Sequence[Result]]) -> dict[str, Sequence[Result]]:
    """Drop the leading words that all names have in common, for a short legend."""
    words = {name: name.split("-") for name in groups}
    columns = zip(*(parts[:-1] for parts in words.values()), strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns)) if len(groups) > 1 else 0
    return {"-".join(words[name][shared:]): results for name, results in groups.items()}


def _line(place: int) -> str:
    return _LINES[place // len(_COLOURS) % len(_LINES)]


def _plain(value: float, _: int) -> str:
    return f"{value:g}"


def _sparse(value: float, _: int) -> str:
    """Label only the 2 and the 5 of the minor ticks of a logarithmic axis."""
    text = f"{value:g}"
    return text if text.lstrip("0.")[:1] in ("2", "5") else ""


def mean_matrix(results: Sequence[Result]) -> list[list[float]]:
    """The matrix of mAP, averaged over the seeds."""
    size = len(results[0].mean_ap)
    return [[fmean(r.mean_ap[i][j] for r in results) for j in range(size)] for i in range(size)]


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
