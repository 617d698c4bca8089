"""`history.jsonl`: what a run logged about its steps, one JSON object a line."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["History", "StepSummary", "read_history"]

_NAME = "history.jsonl"
_CURVE_POINTS = 100


@dataclass(frozen=True, slots=True)
class StepSummary:
    """One step, by position of each width that it trained: loss, mean uncertainty u, gradient norm ‖g_i‖.

    `uncertainty` has only the widths whose loss estimates one; `conflicts`: share of pairs with g_i·g_j < 0.
    """

    losses: dict[int, float]
    uncertainty: dict[int, float]
    norms: dict[int, float]
    conflicts: float


class History:
    """Appends to the history of a run folder; writes nothing where `folder` is None.

    Args:
        widths: names of the widths, by position.
    """

    def __init__(self, folder: Path | None, widths: Sequence[str]) -> None:
        self._file = None if folder is None else (folder / _NAME).open("a")
        self._widths = widths

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def flush(self) -> None:
        """Hand what was written to the operating system, before the checkpoint that belongs to it."""
        if self._file is not None:
            self._file.flush()

    def write(
        self, step: int, rate: float, speed: float, summary: StepSummary, validation: float | None = None
    ) -> None:
        """Append one step.

        Args:
            rate: its learning rate.
            speed: images per second since the start.
            validation: mAP that early stopping found after it.
        """
        if self._file is None:
            return
        line = {
            "step": step,
            "lr": rate,
            "images_per_s": round(speed, 1),
            "loss": self._by_name(summary.losses),
            "uncertainty": self._by_name(summary.uncertainty),
            "gradient_norm": self._by_name(summary.norms),
            "conflicts": summary.conflicts,
        }
        if validation is not None:
            line["validation"] = validation
        self._file.write(json.dumps(line) + "\n")

    def _by_name(self, values: dict[int, float]) -> dict[str, float]:
        return {self._widths[index]: value for index, value in values.items()}


def read_history(folder: Path, points: int | None = _CURVE_POINTS) -> list[dict[str, Any]]:
    """The logged steps of a run; of two lines for one step, the later counts.

    Args:
        points: thin them to at most so many, and as many of those with a validation score.
    """
    path = folder / _NAME
    found: dict[int, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the run was killed while it wrote this line
        found[entry["step"]] = entry
    ordered = [found[step] for step in sorted(found)]
    looks = [entry for entry in ordered if "validation" in entry]
    kept = {entry["step"] for entry in (*_thinned(ordered, points), *_thinned(looks, points))}
    return [entry for entry in ordered if entry["step"] in kept]


def _thinned(entries: Sequence[dict[str, Any]], points: int | None) -> Sequence[dict[str, Any]]:
    return entries[:: -(-len(entries) // points)] if entries and points else entries
