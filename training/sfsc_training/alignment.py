"""Alignment: a linear map per width that brings all widths into one space after training (docs/method.md §6).

The shared classifier ties the widths together only within the span of its class vectors; with fewer classes than
dimensions the other directions are free, and they differ from width to width. What is fitted here takes that
difference out, in closed form and from embeddings alone. Pure functions over float32 arrays of unit rows.

    Procrustes       R_w = U Vᵀ,  U Σ Vᵀ = svd(F_wᵀ F_1)                              R_1 = I
    least squares    L_w = (F_wᵀF_w + λ(n/D) I)⁻¹ F_wᵀ F_1                            L_1 = I
    ridge            P_w = (F_wᵀF_w + λ(n/D) I)⁻¹ F_wᵀ Y     Y: each image's unit class centroid at full width
    blend            A_w = (1 − s) · (R_w or L_w) + s · P_w

An aligned embedding is normalise(f A_w). A new generation takes the older one's full-width embeddings of the same
images for F_1; then R_1 and L_1 are fitted, too. Procrustes is Schönemann 1966, "A generalized solution of the
orthogonal Procrustes problem"; ridge is Hoerl & Kennard 1970.

Networks that were trained apart have means far from 0, and dimensions D′ of their own. Their maps [D′ + 1, D] have
a bias in the last row: they are fitted to rows and targets less their means, f ↦ (f − mean) A + the targets' mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, assert_never

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from sfsc_bundle.linear_maps import Doubles, Moments, apply_map, unit_length
from sfsc_bundle.mixed_gallery import evaluate_mixed_gallery
from sfsc_bundle.retrieval import Floats, Labels
from sfsc_training.errors import AlignmentError

__all__ = [
    "CANDIDATES",
    "UNLABELLED_CANDIDATES",
    "Base",
    "Choice",
    "Fitter",
    "Maps",
    "Method",
    "Sample",
    "Validation",
    "align",
    "centroids",
    "choose",
    "require_images",
]

Ints = npt.NDArray[np.int64]
Embeddings = Mapping[str, Floats]
"""Width → embeddings float32 [n, D′] of the same images, D′ = D but in foreign networks; widths ascend."""
Maps = Mapping[str, Floats]
"""Width → map float32 [D′, D], or [D′ + 1, D] with a bias; an embedding is a row, so the map is on its right."""

Base = Literal["procrustes", "least-squares"]

_STRENGTHS = (0.003, 0.01, 0.03, 0.1)
_SHARES = (0.3, 0.5, 0.7)
_DRAWS = 2  # few, because all methods are compared on the same two galleries


@dataclass(frozen=True, slots=True)
class Method:
    """How maps are fitted. `share`: s, the ridge map's share; `strength`: λ > 0, of ridge and least squares."""

    base: Base
    share: float = 0.0
    strength: float = 0.01


CANDIDATES = (
    Method("procrustes"),
    *(Method("procrustes", share, strength) for share in (*_SHARES, 1.0) for strength in _STRENGTHS),
    *(Method("least-squares", share, strength) for share in (0.0, *_SHARES) for strength in _STRENGTHS),
)
"""What `choose` tries beside no alignment at all."""

UNLABELLED_CANDIDATES = tuple(method for method in CANDIDATES if method.share < 1)
"""Those of them that use unlabelled images where there are any."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Embeddings of n images at every width, and what is known of the images.

    `identity` int64 [n], None where nobody knows it; `target` [n, D]: an older generation's full-width embeddings
    of the same images, None where there is no older generation.
    """

    embeddings: Embeddings
    identity: Ints | None = None
    target: Floats | None = None

    @property
    def full(self) -> Floats:
        """What the other widths are brought to: the target, or the embeddings at the widest width."""
        *_, widest = self.embeddings.values()
        return widest if self.target is None else self.target

    @property
    def dimension(self) -> int:
        """The largest dimension D′ of an embedding; so many images determine every map [D′, D]."""
        return max(int(rows.shape[1]) for rows in self.embeddings.values())


class Fitter:
    """Fits maps of any method to the same images: what is summed over them is summed once.

    Args:
        labelled: training images without augmentation; the ridge part is fitted on them.
        unlabelled: images from where the model will work; where they are given, the base is fitted on them.
        bias: the maps have one; for networks that were trained apart.

    Raises:
        AlignmentError: fewer images than dimensions.
    """

    def __init__(self, labelled: Sample, unlabelled: Sample | None = None, *, bias: bool = False) -> None:
        bottom = labelled if unlabelled is None else unlabelled
        for sample in (labelled, bottom):
            require_images(len(sample.full), sample.dimension)
        *_, widest = bottom.embeddings
        self._fixed = widest if bottom.target is None else None
        self._bias = bias
        self._base = self._moments(bottom, bottom.full)
        self._labelled = labelled

    def _moments(self, sample: Sample, goal: Floats) -> dict[str, Moments]:
        return {width: Moments.of(rows, goal, bias=self._bias) for width, rows in sample.embeddings.items()}

    @cached_property
    def _ridge(self) -> dict[str, Moments]:
        return self._moments(self._labelled, centroids(self._labelled.full, self._labelled.identity))

    def fit(self, method: Method) -> dict[str, Floats]:
        """The map of every width.

        Raises:
            AlignmentError: the method has a ridge part, and the images have no identities or fewer than two.
        """
        return {width: self._map(width, method).astype(np.float32) for width in self._base}

    def _map(self, width: str, method: Method) -> Doubles:
        if not method.share:
            return self._base_map(width, method)
        ridge = self._ridge[width].ridge(method.strength)
        return (1 - method.share) * self._base_map(width, method) + method.share * ridge

    def _base_map(self, width: str, method: Method) -> Doubles:
        moments = self._base[width]
        if width == self._fixed:
            return moments.unchanged
        match method.base:
            case "procrustes":
                return moments.rotation
            case "least-squares":
                return moments.ridge(method.strength)
            case _:
                assert_never(method.base)


def require_images(count: int, dimension: int) -> None:
    """Raises AlignmentError where there are fewer images than dimensions, which leave directions undetermined."""
    if count < dimension:
        raise AlignmentError(
            f"alignment needs at least {dimension} images, one for each dimension of the embedding, found {count}"
        )


def align(embeddings: Embeddings, maps: Maps) -> dict[str, Floats]:
    """normalise(f A_w) for every width, with the bias of the map if it has one.

    Raises:
        KeyError: a width has no map.
    """
    return {width: apply_map(rows, maps[width]) for width, rows in embeddings.items()}


def centroids(embeddings: Floats, identity: Ints | None) -> Floats:
    """Y [n, D]: for each image the unit mean of its identity's embeddings.

    Raises:
        AlignmentError: the identities are unknown, or fewer than two.
    """
    if identity is None:
        raise AlignmentError("a ridge map needs the identities of its images, found none")
    names, number = np.unique(identity, return_inverse=True)
    if len(names) < 2:
        raise AlignmentError(f"a ridge map needs images of at least 2 identities, found {len(names)}")
    sums = np.zeros((len(names), embeddings.shape[1]), np.float64)
    np.add.at(sums, number, embeddings)
    return unit_length(sums.astype(np.float32))[number]


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Images of identities that no map is fitted on, with the positions of queries and gallery."""

    sample: Sample
    labels: Labels
    query: Ints
    gallery: Ints

    def score(self, maps: Maps | None = None) -> float:
        """mAP of the mixed gallery, mean over the query widths; without maps, of the embeddings as they are.

        An older generation takes part as one more width of queries and gallery.
        """
        embeddings = dict(self.sample.embeddings if maps is None else align(self.sample.embeddings, maps))
        if self.sample.target is not None:
            embeddings["older generation"] = self.sample.target
        queries, gallery = (
            {width: rows[at] for width, rows in embeddings.items()} for at in (self.query, self.gallery)
        )
        found = evaluate_mixed_gallery(
            queries, self.labels.take(self.query), gallery, self.labels.take(self.gallery), draws=_DRAWS, shares=()
        )
        return float(np.mean(found.mean_ap))


@dataclass(frozen=True, slots=True)
class Choice:
    """What `choose` found: `method` None is no alignment. `before`, `after`: the score without it and with it."""

    method: Method | None
    before: float
    after: float


def choose(fitter: Fitter, validation: Validation, candidates: Sequence[Method] = CANDIDATES) -> Choice:
    """The method whose mixed gallery has the best mAP on validation identities; the first of equals."""
    with threadpool_limits(1, "blas"):  # on matrices this small more threads only wait for each other
        raw = validation.score()
        best = Choice(None, raw, raw)
        for method in candidates:
            found = validation.score(fitter.fit(method))
            if found > best.after:
                best = Choice(method, raw, found)
    return best
