"""Linear maps that bring embeddings into the space of others, in closed form (docs/method.md §6). numpy only.

An embedding is a row, so a map [D′, D] is on its right; [D′ + 1, D] has a bias in its last row.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sfsc_bundle.retrieval import Floats

__all__ = ["Doubles", "Moments", "apply_map", "unit_length"]

Doubles = npt.NDArray[np.float64]


def apply_map(rows: Floats, values: Floats | Doubles) -> Floats:
    """normalise(f A) for each row f of [n, D′], with the bias of the map if it has one.

    What has no direction becomes NaN.
    """
    with np.errstate(invalid="ignore"):
        mapped = rows @ values if len(values) == rows.shape[1] else rows @ values[:-1] + values[-1]
        return unit_length(mapped)


def unit_length(rows: Floats | Doubles) -> Floats:
    """The rows at unit length."""
    scaled: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32, copy=False)
    return scaled


@dataclass(frozen=True, eq=False)
class Moments:
    """FᵀF [D′, D′] and FᵀT [D′, D] of n rows F and their targets T: all that a closed form has to know of them.

    For a map with a bias, both are of rows and targets less their means; else there are no means.
    """

    gram: Doubles
    cross: Doubles
    count: int
    means: tuple[Doubles, Doubles] | None = None
    solved: dict[float, Doubles] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Floats, targets: Floats, *, bias: bool = False) -> "Moments":
        """Those of rows [n, D′] and targets [n, D]."""
        wide, goal, means = rows.astype(np.float64), targets.astype(np.float64), None
        if bias:
            means = wide.mean(axis=0), goal.mean(axis=0)
            wide, goal = wide - means[0], goal - means[1]
        return cls(wide.T @ wide, wide.T @ goal, len(rows), means)

    @property
    def unchanged(self) -> Doubles:
        """The map that leaves the embeddings as they are; D′ = D."""
        size = len(self.gram)
        return np.eye(size if self.means is None else size + 1, size)

    @cached_property
    def rotation(self) -> Doubles:
        """The orthogonal R = U Vᵀ that minimises ‖F R − T‖, with U Σ Vᵀ = svd(FᵀT); D′ = D (Schönemann 1966)."""
        return self._with_bias(self._rotation)

    def ridge(self, strength: float) -> Doubles:
        """(FᵀF + λ(n/D′) I)⁻¹ FᵀT (Hoerl & Kennard 1970)."""
        if strength not in self.solved:  # candidates share few strengths, and a solution is of order D³
            self.solved[strength] = self._with_bias(self._penalised(strength, 0.0))
        return self.solved[strength]

    def near_rotation(self, strength: float) -> Doubles:
        """The A that minimises ‖F A − T‖² + λ(n/D) ‖A − R‖²: near R where the rows say little."""
        return self._with_bias(self._penalised(strength, self._rotation))

    @cached_property
    def _rotation(self) -> Doubles:
        left, _, right = np.linalg.svd(self.cross)
        return np.asarray(left @ right, np.float64)

    def _penalised(self, strength: float, target: Doubles | float) -> Doubles:
        """The map that is drawn to `target` where the rows say little."""
        penalty, size = strength * self.count / len(self.gram), len(self.gram)
        solved = np.linalg.solve(self.gram + penalty * np.eye(size), self.cross + penalty * target)
        return np.asarray(solved, np.float64)

    def _with_bias(self, values: Doubles) -> Doubles:
        if self.means is None:
            return values
        rows, targets = self.means
        return np.vstack([values, targets - rows @ values])
