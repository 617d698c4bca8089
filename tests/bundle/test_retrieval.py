"""rank-1 and mAP worked by hand. Images are angles in the plane: the nearer the angle, the higher the score."""

import math

import numpy as np
import pytest

from sfsc_bundle.retrieval import Labels, average_precision, cross_width, evaluate, evaluate_order, summarise

A, B, C, JUNK = 1, 2, 3, -1


def at(*degrees: float) -> np.ndarray:
    """Unit vectors, float32 [n, 2]."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def labels(*identity: int, camera: list[int] | None = None, image: list[int] | None = None) -> Labels:
    def ints(values: list[int] | None) -> np.ndarray | None:
        return None if values is None else np.array(values)

    return Labels(np.array(identity), ints(camera), ints(image))


@pytest.mark.parametrize(
    ("relevant", "expected"),
    [
        ([1], 1),
        ([0, 1], 1 / 2),
        ([1, 0, 1, 0], (1 / 1 + 2 / 3) / 2),
        ([0, 1, 1, 0, 1], (1 / 2 + 2 / 3 + 3 / 5) / 3),
        ([1, 1, 1], 1),
        ([0, 0, 0, 1, 1], (1 / 4 + 2 / 5) / 2),
    ],
)
def test_average_precision(relevant: list[int], expected: float) -> None:
    assert average_precision(np.array(relevant, dtype=bool)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("relevant", [[], [0, 0]])
def test_average_precision_of_nothing(relevant: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one relevant entry"):
        average_precision(np.array(relevant, dtype=bool))


def test_two_queries() -> None:
    gallery, identities = at(10, 20, 30, 40), labels(A, B, A, C)
    # From 0°: A B A C, AP(A) = (1 + 2/3) / 2. From 50°: C A B A, AP(B) = 1/3.
    scores = evaluate(at(0, 50), labels(A, B), gallery, identities)
    assert scores.rank1 == 50
    assert scores.mean_ap == pytest.approx(100 * (5 / 6 + 1 / 3) / 2)
    assert (scores.queries, scores.skipped) == (2, 0)


def test_same_identity_in_the_same_camera_is_not_met_and_another_identity_there_is() -> None:
    gallery = at(5, 10, 20)
    gallery_labels = labels(A, B, A, camera=[0, 0, 1])
    scores = evaluate(at(0), labels(A, camera=[0]), gallery, gallery_labels)
    assert scores.rank1 == 0  # B of camera 0 comes first
    assert scores.mean_ap == pytest.approx(50)
    elsewhere = evaluate(at(0), labels(A, camera=[7]), gallery, gallery_labels)
    assert elsewhere.mean_ap == pytest.approx(100 * (1 + 2 / 3) / 2)


@pytest.mark.parametrize("sides", ["query", "gallery"])
def test_the_camera_rule_needs_cameras_on_both_sides(sides: str) -> None:
    query = labels(A, camera=[0] if sides == "query" else None)
    gallery = labels(A, B, camera=[0, 0] if sides == "gallery" else None)
    assert evaluate(at(0), query, at(5, 10), gallery).mean_ap == 100


def test_junk_is_dropped_and_a_distractor_stays() -> None:
    query = labels(A)
    assert evaluate(at(0), query, at(5, 10), labels(JUNK, A)).mean_ap == 100
    assert evaluate(at(0), query, at(5, 10), labels(0, A)).mean_ap == 50


def test_a_junk_query_matches_no_junk() -> None:
    scores = evaluate(at(0, 0), labels(JUNK, A), at(5, 10), labels(JUNK, A))
    assert (scores.queries, scores.skipped) == (1, 1)


def test_an_image_does_not_meet_itself() -> None:
    images = labels(A, A, B, image=[0, 1, 2])
    vectors = at(0, 30, 10)
    # Image 0 sees 2, 1: AP 1/2. Image 1 sees 2, 0: AP 1/2. Image 2 has no match but itself.
    scores = evaluate(vectors, images, vectors, images)
    assert scores.mean_ap == pytest.approx(50)
    assert scores.rank1 == 0
    assert (scores.queries, scores.skipped) == (2, 1)


def test_queries_without_a_match_are_counted_and_do_not_weigh() -> None:
    scores = evaluate(at(0, 0, 0), labels(A, B, C), at(5, 10), labels(A, A))
    assert (scores.rank1, scores.mean_ap) == (100, 100)
    assert (scores.queries, scores.skipped) == (1, 2)


def test_no_query_with_a_match() -> None:
    with pytest.raises(ValueError, match="no query has a valid match"):
        evaluate(at(0), labels(A), at(5), labels(B))


def test_equal_scores_keep_the_gallerys_order() -> None:
    assert evaluate(at(0), labels(A), at(7, 7), labels(A, B)).mean_ap == 100
    assert evaluate(at(0), labels(A), at(7, 7), labels(B, A)).mean_ap == 50


@pytest.mark.parametrize(("relevant", "others"), [(1, 1), (3, 7), (10, 90)])
def test_the_best_and_the_worst_ranking(relevant: int, others: int) -> None:
    total = relevant + others
    gallery = at(*np.linspace(1, 89, total))
    best = evaluate(at(0), labels(A), gallery, labels(*[A] * relevant, *[B] * others))
    assert (best.rank1, best.mean_ap) == (100, 100)
    worst = evaluate(at(0), labels(A), gallery, labels(*[B] * others, *[A] * relevant))
    assert worst.rank1 == 0
    expected = math.fsum(i / (others + i) for i in range(1, relevant + 1)) / relevant
    assert worst.mean_ap == pytest.approx(100 * expected)


def test_orders_made_elsewhere() -> None:
    blocks = [np.array([[1, 0, 2]]), np.array([[2, 1, 0]])]
    scores = evaluate_order(blocks, labels(A, B), labels(A, B, A))
    assert scores.rank1 == 0
    # A at 1 0 2: no yes yes; B at 2 1 0: no yes no.
    assert scores.mean_ap == pytest.approx(100 * ((1 / 2 + 2 / 3) / 2 + 1 / 2) / 2)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([[0, 1, 2], [0, 1, 2]], r"one row per query \(1\), found 2"),
        ([[0, 1]], "rank all 3 gallery positions in every row, found row 0 with 2"),
        ([[0, 1, 1]], "rank all 3 gallery positions"),
        ([[0, 1, 3]], "rank all 3 gallery positions"),
        ([[0, 1, -1]], "rank all 3 gallery positions"),
    ],
)
def test_orders_that_are_no_rankings(order: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_order([np.array(order)], labels(A), labels(A, B, A))


def test_sizes_that_disagree() -> None:
    with pytest.raises(ValueError, match="gallery must be"):
        evaluate(at(0), labels(A), at(1, 2), labels(A))
    with pytest.raises(ValueError, match="query must be"):
        evaluate(at(0)[0], labels(A), at(1), labels(A))


def test_rows_are_query_widths_and_columns_gallery_widths() -> None:
    query_labels, gallery_labels = labels(A), labels(A, B)
    query = {"0.5": at(0), "1.0": at(90)}
    gallery = {"0.5": at(10, 20), "1.0": at(40, 10)}
    found = cross_width(query, query_labels, gallery, gallery_labels)
    assert found.widths == ("0.5", "1.0")
    assert found.mean_ap == ((100, 50), (50, 100))
    gallery["1.0"] = at(95, 80)
    # From 0°: B, A. From 90°: A, B.
    assert cross_width(query, query_labels, gallery, gallery_labels).rank1 == ((100, 0), (0, 100))
    gallery["0.5"] = at(80, 20)
    # From 0°: B, A. From 90°: A, B.
    assert cross_width(query, query_labels, gallery, gallery_labels).mean_ap == ((50, 50), (100, 100))


def test_cross_width_counts_and_refuses_other_widths() -> None:
    found = cross_width({"1.0": at(0, 0)}, labels(A, C), {"1.0": at(1)}, labels(A))
    assert (found.queries, found.skipped) == (1, 1)
    with pytest.raises(ValueError, match="gallery must have the query's widths"):
        cross_width({"1.0": at(0)}, labels(A), {"0.5": at(0), "1.0": at(0)}, labels(A))


def test_summary() -> None:
    matrix = [[50, 40, 30], [55, 60, 20], [45, 70, 80]]
    summary = summarise(matrix)
    assert summary.mean == pytest.approx(50)
    assert summary.mean_self == pytest.approx(190 / 3)
    assert summary.mean_cross == pytest.approx(260 / 6)
    # (1,0): 55 > 50 yes. (2,0): 45 > 50 no. (2,1): 70 > 60 yes.
    assert summary.ac == pytest.approx(2 / 3)


def test_an_equal_cross_test_is_no_gain() -> None:
    assert summarise([[50, 50], [50, 50]]).ac == 0


@pytest.mark.parametrize("matrix", [[], [[1]], [[1, 2]], [[1, 2], [3]]])
def test_no_square_matrix(matrix: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="m×m with m ≥ 2"):
        summarise(matrix)
