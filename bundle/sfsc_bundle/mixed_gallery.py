"""How well each query width searches a gallery whose items were embedded at different widths. numpy only.

A column of the cross-width matrix is a gallery of one width, which a served gallery rarely is: this draws each
item's width at random and scores the same queries against the mixture, several times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt

from sfsc_bundle.retrieval import Floats, Labels, Scores, evaluate

__all__ = ["DRAWS", "SHARES", "MixedGallery", "evaluate_mixed_gallery", "mix"]

DRAWS = 5
"""Random assignments of widths that the figures are averaged over."""

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of full-width items at which the curve is measured; the other items have the narrowest width."""


@dataclass(frozen=True, slots=True)
class MixedGallery:
    """Scores of every query width against galleries of mixed widths, in points.

    `mean_ap`, `rank1` [m]: mean over `draws` galleries whose items have widths drawn uniformly; `*_spread` [m]:
    their standard deviation over the draws. `curve[s]` [m]: mAP where the share `shares[s]` of the items has the
    full width and the rest the narrowest one.
    """

    widths: tuple[str, ...]
    draws: int
    mean_ap: tuple[float, ...]
    mean_ap_spread: tuple[float, ...]
    rank1: tuple[float, ...]
    rank1_spread: tuple[float, ...]
    shares: tuple[float, ...]
    curve: tuple[tuple[float, ...], ...]

    def gaps(self, mean_ap: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """The mixed gallery's mAP minus the mean of the query width's row of the cross-width matrix, [m]."""
        return tuple(mixed - fmean(row) for mixed, row in zip(self.mean_ap, mean_ap, strict=True))


def mix(gallery: Mapping[str, Floats], assignment: npt.NDArray[np.int64]) -> Floats:
    """One gallery [g, D] out of several of the same items: item i at the width of number `assignment[i]`."""
    mixed = np.empty_like(next(iter(gallery.values())))
    for number, embeddings in enumerate(gallery.values()):
        chosen = assignment == number
        mixed[chosen] = embeddings[chosen]
    return mixed


def evaluate_mixed_gallery(
    query: Mapping[str, Floats],
    query_labels: Labels,
    gallery: Mapping[str, Floats],
    gallery_labels: Labels,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    shares: Sequence[float] = SHARES,
) -> MixedGallery:
    """Score every query width against mixed galleries.

    Args:
        query, gallery: width → embeddings, the same widths in ascending order.
        seed: draws the widths; equal seeds give equal assignments for galleries of equal size.

    Raises:
        ValueError: the widths differ, fewer than two draws, or as `evaluate`.
    """
    if tuple(query) != tuple(gallery):
        raise ValueError(f"gallery must have the query's widths {tuple(query)}, found {tuple(gallery)}")
    if draws < 2:
        raise ValueError(f"draws must be at least 2, or there is no spread, found {draws}")
    count, widths = len(gallery_labels), tuple(query)
    random = np.random.default_rng(seed)

    def against(mixed: Floats) -> list[Scores]:
        return [evaluate(query[width], query_labels, mixed, gallery_labels) for width in widths]

    drawn = [against(mix(gallery, random.integers(len(widths), size=count))) for _ in range(draws)]
    order = random.permutation(count)
    curve = []
    for share in shares:
        assignment = np.zeros(count, np.int64)
        assignment[order[: round(share * count)]] = len(widths) - 1
        curve.append(tuple(scores.mean_ap for scores in against(mix(gallery, assignment))))
    by_width = list(zip(*drawn, strict=True))
    return MixedGallery(
        widths,
        draws,
        tuple(fmean(one.mean_ap for one in scores) for scores in by_width),
        tuple(stdev(one.mean_ap for one in scores) for scores in by_width),
        tuple(fmean(one.rank1 for one in scores) for scores in by_width),
        tuple(stdev(one.rank1 for one in scores) for scores in by_width),
        tuple(shares),
        tuple(curve),
    )
