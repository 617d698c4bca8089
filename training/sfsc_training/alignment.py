"""Alignment: a linear map per width that brings all widths into one space after training (docs/method.md, §7).

The shared classifier ties the widths together only within the span of its class vectors; with fewer classes than
dimensions the other directions are free, and they differ from width to width. What is fitted here, in closed form and
from embeddings alone, takes that difference out. Pure functions over float32 arrays; rows have unit length.

    Procrustes       R_w = U Vᵀ,  U Σ Vᵀ = svd(F_wᵀ F_1)                              R_1 = I
    least squares    L_w = (F_wᵀF_w + λ(n/D) I)⁻¹ F_wᵀ F_1                            L_1 = I
    ridge            P_w = (F_wᵀF_w + λ(n/D) I)⁻¹ F_wᵀ Y     Y: each image's unit class centroid at full width
    blend            A_w = (1 − s) · (R_w or L_w) + s · P_w

An aligned embedding is normalise(f A_w). Procrustes is Schönemann 1966, "A generalized solution of the orthogonal
Procrustes problem"; ridge is Hoerl & Kennard 1970.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
import numpy.typing as npt
from scipy.linalg import orthogonal_procrustes, solve

from sfsc_bundle.mixed_gallery import evaluate_mixed_gallery
from sfsc_bundle.retrieval import Labels

__all__ = ["CANDIDATES", "Base", "Choice", "Fitter", "Maps", "Method", "Sample", "align", "centroids", "choose"]

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Maps = Mapping[str, Floats]
"""Width → map float32 [D, D]; an embedding is a row, so it is multiplied from the left."""

Base = Literal["procrustes", "least-squares"]

_STRENGTHS = (0.003, 0.01, 0.03, 0.1)
_SHARES = (0.3, 0.5, 0.7)


@dataclass(frozen=True, slots=True)
class Method:
    """How maps are fitted. `share`: s, the ridge map's share; `strength`: λ, of ridge and least squares."""

    base: Base
    share: float = 0.0
    strength: float = 0.01


CANDIDATES = (
    Method("procrustes"),
    *(Method("procrustes", share, strength) for share in (*_SHARES, 1.0) for strength in _STRENGTHS),
    *(Method("least-squares", share, strength) for share in (0.0, *_SHARES) for strength in _STRENGTHS),
)
"""What `choose` tries beside no alignment at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Embeddings of the same images at every width, ascending; `identity` int64 [n], None where nobody knows."""

    embeddings: Maps
    identity: Ints | None = None

    def __len__(self) -> int:
        return len(next(iter(self.embeddings.values())))


class Fitter:
    """Fits maps of any method to the same images: what is summed over them is summed once.

    Args:
        labelled: training images without augmentation; the ridge part is fitted on them.
        unlabelled: images from where the model will work; where they are given, the base is fitted on them.
    """

    def __init__(self, labelled: Sample, unlabelled: Sample | None = None) -> None:
        bottom = labelled if unlabelled is None else unlabelled
        *_, widest = labelled.embeddings
        self._widest = widest
        target = bottom.embeddings[widest]
        self._base = {width: _Moments.of(rows, target) for width, rows in bottom.embeddings.items()}
        self._ridge = {}
        if labelled.identity is not None:
            goal = centroids(labelled.embeddings[widest], labelled.identity)
            self._ridge = {width: _Moments.of(rows, goal) for width, rows in labelled.embeddings.items()}

    def fit(self, method: Method) -> dict[str, Floats]:
        """The map of every width. Raises ValueError: the ridge part is wanted and the images have no identities."""
        if method.share and not self._ridge:
            raise ValueError("a ridge map needs the identities of its images, found none")
        return {width: self._map(width, method).astype(np.float32) for width in self._base}

    def _map(self, width: str, method: Method) -> Doubles:
        base = self._base_map(width, method)
        if not method.share:
            return base
        return (1 - method.share) * base + method.share * self._ridge[width].ridge(method.strength)

    def _base_map(self, width: str, method: Method) -> Doubles:
        moments = self._base[width]
        if width == self._widest:
            return np.eye(len(moments.gram))
        match method.base:
            case "procrustes":
                return moments.rotation()
            case "least-squares":
                return moments.ridge(method.strength)
            case _:
                assert_never(method.base)


def align(embeddings: Maps, maps: Maps) -> dict[str, Floats]:
    """normalise(f A_w) for every width. Raises KeyError where a width has no map."""
    return {width: unit(rows @ maps[width]) for width, rows in embeddings.items()}


def centroids(embeddings: Floats, identity: Ints | None) -> Floats:
    """Y [n, D]: for each image the unit mean of its identity's embeddings.

    Raises:
        ValueError: there are no identities, or fewer than two.
    """
    if identity is None:
        raise ValueError("a ridge map needs the identities of its images, found none")
    names, number = np.unique(identity, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"a ridge map needs at least 2 identities, found {len(names)}")
    sums = np.zeros((len(names), embeddings.shape[1]), np.float64)
    np.add.at(sums, number, embeddings)
    return unit(sums.astype(np.float32))[number]


def unit(rows: Floats) -> Floats:
    """Rows brought to length 1."""
    scaled: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


@dataclass(frozen=True, slots=True)
class Choice:
    """What `choose` found: `method` None is no alignment. mAP of the mixed gallery, mean over the query widths."""

    method: Method | None
    raw: float
    aligned: float


def choose(
    labelled: Sample,
    validation: Sample,
    labels: Labels,
    query: Ints,
    gallery: Ints,
    unlabelled: Sample | None = None,
    candidates: Sequence[Method] = CANDIDATES,
) -> Choice:
    """The method whose mixed gallery has the best mAP on identities that nothing was fitted on.

    Args:
        validation: images of the validation identities, with `labels` and the positions of queries and gallery.
    """

    def score(embeddings: Maps) -> float:
        parts = ({width: rows[at] for width, rows in embeddings.items()} for at in (query, gallery))
        queries, galleries = parts
        found = evaluate_mixed_gallery(
            queries, labels.take(query), galleries, labels.take(gallery), draws=2, shares=()
        )
        return float(np.mean(found.mean_ap))

    fitter = Fitter(labelled, unlabelled)
    raw = score(validation.embeddings)
    best = Choice(None, raw, raw)
    for method in candidates:
        found = score(align(validation.embeddings, fitter.fit(method)))
        if found > best.aligned:
            best = Choice(method, raw, found)
    return best


@dataclass(frozen=True, slots=True, eq=False)
class _Moments:
    """FᵀF [D, D] and FᵀT [D, D] of n rows F and their targets T: all that a closed form has to know of them."""

    gram: Doubles
    cross: Doubles
    count: int

    @classmethod
    def of(cls, rows: Floats, targets: Floats) -> "_Moments":
        wide = rows.astype(np.float64)
        return cls(wide.T @ wide, wide.T @ targets.astype(np.float64), len(rows))

    def rotation(self) -> Doubles:
        """The orthogonal R that minimises ‖F R − T‖, which depends on FᵀT alone."""
        found: Doubles = orthogonal_procrustes(np.eye(len(self.cross)), self.cross)[0]
        return found

    def ridge(self, strength: float) -> Doubles:
        """(FᵀF + λ(n/D) I)⁻¹ FᵀT."""
        dimension = len(self.gram)
        penalty = strength * self.count / dimension * np.eye(dimension)
        found: Doubles = solve(self.gram + penalty, self.cross, assume_a="pos")
        return found
