"""The report: tables and figures in one self-contained HTML file."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean, stdev

from sfsc_bundle.retrieval import summarise
from sfsc_training.errors import DataError
from sfsc_training.report.plots import cost_curve, curves, heat_maps, mixed_curve, png
from sfsc_training.results import Result

__all__ = ["write_report"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .3rem .6rem; border-bottom: 1px solid #ccc }
td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td:first-child, th:first-child { text-align: left }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; color: #555 } dd { margin: 0 }
caption { text-align: left; color: #555; padding-bottom: .4rem } img { max-width: 100%; height: auto }
"""
_LEGEND = {
    "at 1.0": "query and gallery at width 1.0, the only width of an untouched network",
    "mean": "over all pairs of a query width and a gallery width",
    "self": "over the pairs of one width, the diagonal of the matrix",
    "cross": "over the pairs of two different widths",
    "AC": "share of the pairs in which a wider query finds more in a narrow gallery than a narrow query does",
    "over unified": "mean, less that of the method unified: the narrowest width of the page, trained alone",
    "conflicts": "share of the pairs of widths whose gradients oppose each other, over the logged steps",
}
"""What the columns of the first table are."""
_TITLES = {
    "matrices": "Cross-width mAP",
    "cost": "Accuracy against cost",
    "mixed": "Accuracy in a gallery of two widths",
    "conflicts": "Conflicting gradient pairs over training",
    "validation": "Validation identities over training, as early stopping scored them",
    "gradient_norm": "Gradient norm of each width over training (first seed)",
    "uncertainty": "Mean uncertainty of each width over training (first seed)",
    "loss": "Loss of each width over training (first seed)",
}


def write_report(results: Sequence[Result], folder: Path) -> Path:
    """Write `index.html` and each figure as a PNG beside it; returns the path of the page.

    Runs with the same recipe name are seeds of one group and are averaged.

    Raises:
        DataError: there are no results, runs of one name have different widths, or not all were scored on the same
            queries and gallery.
    """
    groups = _groups(results)
    figures = {"matrices": heat_maps(groups), "cost": cost_curve(groups)}
    mixed = _with_mixed_galleries(groups)
    if mixed:
        figures["mixed"] = mixed_curve(mixed)
    figures |= curves(groups)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_summary(groups), _shortfalls(groups), _bundles(groups), _ablation(groups), _mixed(mixed)]
    for name, figure in figures.items():
        content = png(figure)
        (folder / f"{name}.png").write_bytes(content)
        source = base64.b64encode(content).decode()
        title = escape(_TITLES[name])
        parts.append(f'<h2>{title}</h2>\n<img alt="{title}" src="data:image/png;base64,{source}">')
    body = "\n".join(part for part in parts if part)
    page = folder / "index.html"
    page.write_text(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Training report</title>'
        f"<style>{_STYLE}</style>\n<h1>Training report</h1>\n{body}\n</html>\n",
        encoding="utf-8",
    )
    return page


def _groups(results: Sequence[Result]) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.recipe.name, []).append(result)
    for name, members in groups.items():
        if len({member.recipe.widths for member in members}) > 1:
            raise DataError(f"the runs named {name} have different widths; give them different names")
    if not groups:
        raise DataError("a report needs at least one run")
    protocols = {result.evaluation["protocol"]: result.recipe.name for result in results}
    if len(protocols) > 1:
        found = "; ".join(f"{name}: {protocol}" for protocol, name in protocols.items())
        raise DataError(f"runs of one report must be scored on the same queries and gallery, found {found}")
    return groups


def _summary(groups: Mapping[str, Sequence[Result]]) -> str:
    unified = _unified(groups)
    head = (
        "recipe",
        "method",
        "seeds",
        "at 1.0",
        "mean",
        "self",
        "cross",
        "AC",
        "over unified",
        "conflicts",
        "training",
    )
    rows = [*_untouched(groups), *(_row(name, members, unified) for name, members in groups.items())]
    first = next(iter(groups.values()))[0]
    caption = (
        f"mAP in points, mean ± standard deviation over the seeds. {first.evaluation['protocol']}. Training: "
        "forward and backward of all steps, what teaches and the trainings before; 2 FLOP a multiply-accumulate."
    )
    meanings = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in _LEGEND.items())
    return f"{_table(head, rows, caption)}\n<dl>{meanings}</dl>"


def _untouched(groups: Mapping[str, Sequence[Result]]) -> list[list[str]]:
    """A row for each pretrained network that runs began from, as it came and with a map, mean over the runs."""
    scores: dict[tuple[str, str], list[float]] = {}
    for found in (member.untouched for members in groups.values() for member in members):
        if found is not None:
            for how, row in (("untouched", found), ("untouched, with a map", found["mapped"])):
                if row is not None:
                    scores.setdefault((found["network"], how), []).append(row["mean_ap"])
    return [[escape(name), how, "–", _spread(values), *("–" * 7)] for (name, how), values in scores.items()]


def _shortfalls(groups: Mapping[str, Sequence[Result]]) -> str:
    """A sentence for each recipe whose width 1.0 ends below the untouched network; empty where none does."""
    sentences = []
    for name, members in groups.items():
        begun = [member for member in members if member.untouched is not None and member.recipe.widths[-1] == 1]
        full = [member.mean_ap[-1][-1] for member in begun]
        best = [max(row["mean_ap"] for row in _forms(member)) for member in begun]
        if begun and fmean(full) < fmean(best):
            sentences.append(
                f"<p>Width 1.0 of {escape(name)} has {fmean(full):.1f} mAP, less than the network that it began "
                f"from has without any training ({fmean(best):.1f}), which <code>sfsc-train adopt</code> makes a "
                "bundle of.</p>"
            )
    return "\n".join(sentences)


def _bundles(groups: Mapping[str, Sequence[Result]]) -> str:
    """A sentence for each run whose bundle will have other figures; empty where none does."""
    said = [(name, one.bundle_differs) for name, members in groups.items() for one in members]
    return "\n".join(f"<p>{escape(name)}: {escape(sentence)}.</p>" for name, sentence in said if sentence)


def _forms(member: Result) -> list[Mapping[str, float]]:
    found = member.untouched
    return [] if found is None else [found, *([found["mapped"]] if found["mapped"] else [])]


def _unified(groups: Mapping[str, Sequence[Result]]) -> float | None:
    """mAP of the method `unified`: the narrowest width of the report, trained alone."""
    narrowest = min(members[0].recipe.widths[0] for members in groups.values())
    alone = (m for m in groups.values() if m[0].recipe.method == "unified" and m[0].recipe.widths == (narrowest,))
    return next((_mean(members) for members in alone), None)


def _row(name: str, members: Sequence[Result], unified: float | None) -> list[str]:
    recipe = members[0].recipe
    joint = len(recipe.widths) > 1
    summaries = [summarise(member.mean_ap) for member in members] if joint else []
    shares = [fmean(entry["conflicts"] for entry in member.history) for member in members if member.history]
    spent = [member.training_macs for member in members if member.training_macs is not None]
    gain = "–" if unified is None else f"{_mean(members) - unified:+.1f}"
    return [
        escape(name),
        escape(members[0].recipe.method),
        str(len(members)),
        _spread([member.mean_ap[-1][-1] for member in members if recipe.width_names[-1] == "1.0"]),
        _spread([member.mean for member in members]),
        _spread([s.mean_self for s in summaries]),
        _spread([s.mean_cross for s in summaries]),
        f"{fmean(s.ac for s in summaries):.2f}" if summaries else "–",
        gain,
        f"{100 * fmean(shares):.1f} %" if joint and not recipe.network.separate and shares else "–",
        f"{2e-12 * fmean(spent):,.3g} TFLOP" if spent else "–",
    ]


def _with_mixed_galleries(groups: Mapping[str, Sequence[Result]]) -> dict[str, Sequence[Result]]:
    """The runs of several widths that were scored against mixed galleries; earlier versions did not."""
    shown = {name: [one for one in members if one.mixed is not None] for name, members in groups.items()}
    return {name: members for name, members in shown.items() if members and len(members[0].recipe.widths) > 1}


def _mixed(groups: Mapping[str, Sequence[Result]]) -> str:
    """Galleries of mixed widths, by query width; empty where no run was scored against them."""
    rows = []
    for name, members in groups.items():
        found = [member.mixed for member in members if member.mixed is not None]
        for number, width in enumerate(members[0].recipe.width_names):
            columns = ([one[key][number] for one in found] for key in ("mean_ap", "gaps", "rank1"))
            score, gap, rank1 = columns
            rows.append([f"{escape(name)}, {width}", _spread(score), f"{fmean(gap):+.1f}", _spread(rank1)])
    if not rows:
        return ""
    caption = (
        "In points, mean ± standard deviation over the seeds, of galleries whose items have widths drawn at "
        "random. Gap: to the mean of the query width's row of the matrix."
    )
    return "<h2>Galleries of mixed widths</h2>\n" + _table(
        ("recipe, query width", "mAP", "gap", "rank-1"), rows, caption
    )


def _ablation(groups: Mapping[str, Sequence[Result]]) -> str:
    """The 2 × 2 table loss × aggregation, from those of its methods that have runs; empty for fewer than two."""
    names = (("bct-s", "sfsc-without-loss"), ("sfsc-without-projection", "sfsc"))
    by_method: dict[str, str] = {}
    chosen = []
    for recipe, members in groups.items():
        method = members[0].recipe.method
        if method not in by_method:
            by_method[method] = _spread([member.mean for member in members])
            chosen += [recipe] * any(method in row for row in names)
    if sum(name in by_method for row in names for name in row) < 2:
        return ""
    rows = [
        [label, *(by_method.get(name, "–") for name in row)]
        for label, row in zip(("base loss", "evidential loss"), names, strict=True)
    ]
    caption = f"Mean of the matrix, mAP in points, mean ± standard deviation over the seeds. {', '.join(chosen)}."
    return "<h2>Ablation</h2>\n" + _table(("", "sum", "projection"), rows, caption)


def _mean(members: Sequence[Result]) -> float:
    return fmean(member.mean for member in members)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><caption>{escape(caption)}</caption>\n<tr>{top}</tr>\n{body}</table>"
