"""Retrieval metrics: rank-1 (CMC@1), mAP, and the matrix over query and gallery widths. numpy only.

AP of one query = Σ_k precision@k · relevant_k / Σ_k relevant_k over the ranked gallery (Zheng et al. 2015,
Market-1501). Results are in points, 0–100.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt

__all__ = [
    "CrossWidth",
    "Labels",
    "Scores",
    "Summary",
    "average_precision",
    "cross_width",
    "evaluate",
    "evaluate_order",
    "summarise",
]

JUNK = -1  # images with this identity are dropped from the gallery (Market-1501's junk)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of n images.

    `identity` [n]; −1 is junk, which is dropped from a gallery; distractors have an identity no query has.
    `camera` [n] or None: where both sides have cameras, a query does not meet its own identity in its own
    camera. `image` [n] or None: where both sides have it, a query does not meet itself.
    """

    identity: Ints
    camera: Ints | None = None
    image: Ints | None = None

    def __len__(self) -> int:
        return len(self.identity)

    def take(self, rows: npt.NDArray[np.int64]) -> "Labels":
        """The labels of some rows."""
        return Labels(
            self.identity[rows],
            None if self.camera is None else self.camera[rows],
            None if self.image is None else self.image[rows],
        )


@dataclass(frozen=True, slots=True)
class Scores:
    """rank-1 and mAP in points over the queries that have a valid match; the others are counted."""

    rank1: float
    mean_ap: float
    queries: int
    skipped: int


def average_precision(relevant: npt.NDArray[np.bool_]) -> float:
    """AP of one ranked list, 0–1.

    >>> average_precision(np.array([True, False, True, False]))   # (1/1 + 2/3) / 2
    0.8333333333333333

    Raises:
        ValueError: nothing in the list is relevant.
    """
    ranks = np.flatnonzero(relevant) + 1
    if not len(ranks):
        raise ValueError("average precision needs at least one relevant entry, found none")
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def evaluate(
    query: Floats, query_labels: Labels, gallery: Floats, gallery_labels: Labels, *, chunk: int = 256
) -> Scores:
    """Rank the gallery for every query by inner product and score the rankings.

    Args:
        query, gallery: float32 [q, D] and [g, D], rows of unit length (inner product = cosine).
        chunk: queries ranked at a time; bounds memory to chunk × g.

    Equal scores keep the gallery's order.

    Raises:
        ValueError: sizes disagree, or no query has a valid match.
    """
    _check(query, query_labels, "query")
    _check(gallery, gallery_labels, "gallery")
    return _score(_rank(query, gallery, chunk), query_labels, gallery_labels)


def evaluate_order(
    orders: Sequence[npt.NDArray[np.int64]], query_labels: Labels, gallery_labels: Labels
) -> Scores:
    """Score rankings that were made elsewhere, for example by a service.

    Args:
        orders: blocks of rows; each row holds every gallery position once, best first (a ranking cut short
            would flatter AP). Together one row per query.

    Raises:
        ValueError: the number of rows is not the number of queries, a row is not a ranking of the whole
            gallery, or no query has a valid match.
    """
    rows = sum(len(block) for block in orders)
    if rows != len(query_labels):
        raise ValueError(f"orders must have one row per query ({len(query_labels)}), found {rows}")
    everything = np.arange(len(gallery_labels))
    for number, order in enumerate(row for block in orders for row in block):
        if not np.array_equal(np.sort(order), everything):
            raise ValueError(
                f"orders must rank all {len(gallery_labels)} gallery positions in every row, "
                f"found row {number} with {len(np.unique(order))} different ones"
            )
    return _score((row for block in orders for row in block), query_labels, gallery_labels)


def _rank(query: Floats, gallery: Floats, chunk: int) -> Iterator[Ints]:
    for start in range(0, len(query), chunk):
        similarity = query[start : start + chunk] @ gallery.T
        yield from np.argsort(-similarity, axis=1, kind="stable")


def _score(orders: Iterable[Ints], query_labels: Labels, gallery_labels: Labels) -> Scores:
    precisions: list[float] = []
    firsts: list[bool] = []
    for number, order in enumerate(orders):
        relevant = _relevant(order, number, query_labels, gallery_labels)
        if relevant.any():
            precisions.append(average_precision(relevant))
            firsts.append(bool(relevant[0]))
    if not precisions:
        raise ValueError("no query has a valid match in the gallery")
    skipped = len(query_labels) - len(precisions)
    return Scores(100 * fmean(firsts), 100 * fmean(precisions), len(precisions), skipped)


def _relevant(order: Ints, number: int, query: Labels, gallery: Labels) -> npt.NDArray[np.bool_]:
    identities = gallery.identity[order]
    same: npt.NDArray[np.bool_] = identities == query.identity[number]
    dropped = identities == JUNK
    if query.camera is not None and gallery.camera is not None:
        dropped |= same & (gallery.camera[order] == query.camera[number])
    if query.image is not None and gallery.image is not None:
        dropped |= gallery.image[order] == query.image[number]
    kept: npt.NDArray[np.bool_] = same[~dropped]
    return kept


def _check(embeddings: Floats, labels: Labels, name: str) -> None:
    if embeddings.ndim != 2 or len(embeddings) != len(labels):
        raise ValueError(
            f"{name} must be [n, D] with one label a row, found {embeddings.shape} and {len(labels)} labels"
        )


@dataclass(frozen=True, slots=True)
class CrossWidth:
    """m×m matrices in points; row = query width, column = gallery width."""

    widths: tuple[str, ...]
    mean_ap: tuple[tuple[float, ...], ...]
    rank1: tuple[tuple[float, ...], ...]
    queries: int
    skipped: int


def cross_width(
    query: Mapping[str, Floats], query_labels: Labels, gallery: Mapping[str, Floats], gallery_labels: Labels
) -> CrossWidth:
    """Score every query width against every gallery width.

    Args:
        query, gallery: width → embeddings, the same widths; the query's order is the matrix's.

    Raises:
        ValueError: the widths differ, or as `evaluate`.
    """
    widths = tuple(query)
    if set(widths) != set(gallery):
        raise ValueError(f"gallery must have the query's widths {widths}, found {tuple(gallery)}")
    cells = [
        [evaluate(query[row], query_labels, gallery[column], gallery_labels) for column in widths]
        for row in widths
    ]
    return CrossWidth(
        widths,
        tuple(tuple(cell.mean_ap for cell in row) for row in cells),
        tuple(tuple(cell.rank1 for cell in row) for row in cells),
        cells[0][0].queries,
        cells[0][0].skipped,
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """Means of a matrix in points. `ac`: share of pairs (i wider than j) with M[i][j] > M[j][j]."""

    mean: float
    mean_self: float
    mean_cross: float
    ac: float


def summarise(matrix: Sequence[Sequence[float]]) -> Summary:
    """Summarise an m×m matrix whose widths ascend; m ≥ 2."""
    size = len(matrix)
    if size < 2 or any(len(row) != size for row in matrix):
        raise ValueError(f"matrix must be m×m with m ≥ 2, found {[len(row) for row in matrix]}")
    values = np.array(matrix, dtype=np.float64)
    off = ~np.eye(size, dtype=bool)
    wider = [(i, j) for i in range(size) for j in range(i)]
    ac = fmean(bool(values[i, j] > values[j, j]) for i, j in wider)
    return Summary(float(values.mean()), float(np.diag(values).mean()), float(values[off].mean()), ac)
