"""Fit the maps that bring adopted networks into one space (docs/method.md §6), chosen on validation identities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sfsc_bundle.manifest import Alignment
from sfsc_bundle.retrieval import evaluate
from sfsc_training.align_run import CHOSEN_BY_NOTHING, chosen_by
from sfsc_training.alignment import Fitter, Maps, Method, Sample, Validation, align

__all__ = ["CANDIDATES", "Fitted", "fit_maps"]

_STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)  # stronger than for trained widths, which saw the same images already
_SHARES = (0.0, 0.3, 0.5, 0.7, 1.0)
CANDIDATES = tuple(Method("least-squares", share, strength) for share in _SHARES for strength in _STRENGTHS)
"""What is tried: least squares onto the target's own vectors, ridge onto its class centroids, and between them."""

_TOO_FEW = "nothing: a map needs as many images as an embedding has dimensions"
_WITHOUT_CHOICE = Method("least-squares", 0.0, 0.1)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """`maps`: of the widths that have one, [D′ + 1, D]; `kind`: what the others are mapped by."""

    maps: Maps
    kind: Literal["ridge", "least-squares"]
    alignment: Alignment


def fit_maps(labelled: Sample, unlabelled: Sample | None, validation: Validation | None) -> Fitted:
    """Fit the maps of all widths onto the target, or onto the widest where there is no target.

    Once validation identities have chosen the method, maps are fitted on them, too: of few identities each counts.
    One network alone stays as it is where too few images are there for a map.

    Raises:
        AlignmentError: fewer images than an embedding has dimensions, or one identity.
    """
    if needs_no_map(labelled) and len(labelled.full) < labelled.dimension:
        return Fitted({}, "ridge", Alignment(base=None, chosen_by=_TOO_FEW))
    fitter = Fitter(labelled, unlabelled, bias=True)
    method, after = _WITHOUT_CHOICE, None
    if validation is not None:
        scores = {m: validation.score(fitter.fit(m)) for m in _acceptable(fitter, validation)}
        method, after = max(scores.items(), key=lambda found: found[1])
        labelled = _joined(labelled, validation)
        fitter = Fitter(labelled, unlabelled, bias=True)
    *_, widest = labelled.embeddings
    untouched = widest if labelled.target is None and not method.share else None
    maps = {width: values for width, values in fitter.fit(method).items() if width != untouched}
    ridge, base = method.share > 0, method.share < 1
    on_labelled = ridge or unlabelled is None
    identity = labelled.identity if on_labelled and labelled.identity is not None else np.zeros(0)
    alignment = Alignment(
        base="least-squares" if maps else None,
        ridge_share=method.share,
        strength=method.strength if maps else 0.0,
        images=len(identity),
        identities=len(np.unique(identity)),
        unlabelled=len(unlabelled.full) if base and unlabelled is not None else 0,
        chosen_by=CHOSEN_BY_NOTHING if validation is None else chosen_by(validation),
        after=after,
    )
    return Fitted(maps, "ridge" if ridge else "least-squares", alignment)


def needs_no_map(sample: Sample) -> bool:
    """Whether there is one network and nothing that it must agree with."""
    return sample.target is None and len(sample.embeddings) == 1


def _joined(labelled: Sample, validation: Validation) -> Sample:
    """The labelled images and those of validation, whose identities are others."""
    assert labelled.identity is not None
    sample, identity = validation.sample, validation.labels.identity
    known = identity >= 0
    rows = {
        width: np.concatenate([found, sample.embeddings[width][known]])
        for width, found in labelled.embeddings.items()
    }
    target = None
    if labelled.target is not None and sample.target is not None:
        target = np.concatenate([labelled.target, sample.target[known]])
    return Sample(rows, np.concatenate([labelled.identity, identity[known] + labelled.identity.max() + 1]), target)


def _acceptable(fitter: Fitter, validation: Validation) -> Sequence[Method]:
    """The candidates that leave the widest network's own rank-1 at least as it is without a map."""
    sample = validation.sample
    if sample.target is not None:
        return CANDIDATES
    *_, widest = sample.embeddings
    query, gallery = validation.query, validation.gallery

    def rank1(method: Method) -> float:
        rows = align(sample.embeddings, fitter.fit(method))[widest]
        labels = validation.labels
        return evaluate(rows[query], labels.take(query), rows[gallery], labels.take(gallery)).rank1

    found = {method: rank1(method) for method in CANDIDATES}
    untouched = next(found[method] for method in CANDIDATES if not method.share)
    return [method for method in CANDIDATES if found[method] >= untouched]
