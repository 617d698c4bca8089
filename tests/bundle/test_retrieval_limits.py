"""What retrieval metrics refuse, and which labels leave the gallery alone."""

import numpy as np
import pytest

from sfsc_bundle.retrieval import Labels, cross_width, evaluate, evaluate_order, summarise

UNIT = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]], np.float32)


def labels(*identity: int, image: list[int] | None = None) -> Labels:
    return Labels(np.array(identity), None, None if image is None else np.array(image))


def test_only_minus_one_is_junk() -> None:
    assert evaluate(UNIT[:1], labels(5), UNIT, labels(-2, 5, 5)).rank1 == 0
    assert evaluate(UNIT[:1], labels(5), UNIT, labels(-1, 5, 5)).rank1 == 100


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_the_image_rule_needs_images_on_both_sides(side: str) -> None:
    query = labels(5, image=[0] if side == "query" else None)
    gallery = labels(5, 6, 5, image=[0, 1, 2] if side == "gallery" else None)
    assert evaluate(UNIT[:1], query, UNIT, gallery).rank1 == 100


@pytest.mark.parametrize(
    ("vectors", "count"),
    [(UNIT, 2), (UNIT, 4), (UNIT[0], 2), (UNIT[None], 1)],
    ids=["too few labels", "too many labels", "a single vector", "three dimensions"],
)
def test_embeddings_are_a_matrix_with_one_label_a_row(vectors: np.ndarray, count: int) -> None:
    with pytest.raises(ValueError, match=r"query must be \[n, D\] with one label a row"):
        evaluate(vectors, labels(*[5] * count), UNIT, labels(5, 5, 5))
    with pytest.raises(ValueError, match=r"gallery must be \[n, D\] with one label a row"):
        evaluate(UNIT, labels(5, 5, 5), vectors, labels(*[5] * count))


@pytest.mark.parametrize("rows", [1, 3])
def test_there_is_one_ranking_per_query(rows: int) -> None:
    order = [np.array([[0, 1, 2]] * rows)]
    with pytest.raises(ValueError, match=rf"one row per query \(2\), found {rows}"):
        evaluate_order(order, labels(5, 5), labels(5, 5, 6))


@pytest.mark.parametrize("widths", [("0.5",), ("0.5", "1.0", "0.75"), ("0.5", "0.75")])
def test_both_sides_have_the_same_widths(widths: tuple[str, ...]) -> None:
    query = {"0.5": UNIT[:1], "1.0": UNIT[:1]}
    with pytest.raises(ValueError, match="gallery must have the query's widths"):
        cross_width(query, labels(5), dict.fromkeys(widths, UNIT), labels(5, 5, 6))


@pytest.mark.parametrize("rows", [[2, 3], [3, 2], [1, 2], [2, 1]])
def test_a_matrix_is_square(rows: list[int]) -> None:
    with pytest.raises(ValueError, match=r"m×m"):
        summarise([[50.0] * columns for columns in rows])


def test_a_summary_of_two_widths_is_worked_out_by_hand() -> None:
    found = summarise([[10.0, 20.0], [40.0, 70.0]])
    assert (found.mean, found.mean_self, found.mean_cross, found.ac) == (35.0, 40.0, 30.0, 1.0)
