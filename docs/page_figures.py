"""Figures out of benchmarks/results that the gallery page states beside the bundle's own, as one of its files."""

import json
from pathlib import Path
from typing import Any

from tables import RESULTS

__all__ = ["PAGE_FIGURES", "page_figures"]

ROOT = Path(__file__).parents[1]
SWEEP = RESULTS / "omniglot28-packaged"
PAGE_FIGURES = ROOT / "service" / "sfsc_service" / "page" / "separately_trained.json"


def page_figures() -> str:
    """Networks that were trained apart, the same after the closed form, and a family that was trained together.

    mAP in points on omniglot28: `own`, mean over the widths in galleries of their own, and `other`, mean over all
    pairs of two different widths. Means over the seeds.
    """
    apart, together = runs("independent"), runs("sfsc")
    document = {
        "dataset": "omniglot28",
        "widths": apart[0]["evaluation"]["widths"],
        "seeds": len(apart),
        "apart": means([run["raw"]["mean_ap"] for run in apart]),
        "joined": means([run["evaluation"]["mean_ap"] for run in apart]),
        "together": means([run["evaluation"]["mean_ap"] for run in together]),
    }
    return json.dumps(document, indent=1) + "\n"


def runs(method: str) -> list[Any]:
    """The results of a method on test identities, by seed."""
    paths = sorted(SWEEP.glob(f"omniglot28-{method}-seed*-test.json"))
    return [json.loads(path.read_text())["data"] for path in paths]


def means(matrices: list[list[list[float]]]) -> dict[str, float]:
    """Means of the diagonals and of everything beside them."""
    cells = [(i == j, cell) for matrix in matrices for i, row in enumerate(matrix) for j, cell in enumerate(row)]
    parts = {"own": [cell for own, cell in cells if own], "other": [cell for own, cell in cells if not own]}
    return {name: round(sum(part) / len(part), 2) for name, part in parts.items()}
