"""Galleries of mixed widths: they contain the pure ones, and equal seeds give equal figures."""

import dataclasses
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfsc_bundle.manifest import MixedQuality
from sfsc_bundle.mixed_gallery import DRAWS, SHARES, MixedGallery, evaluate_mixed_gallery, mix
from sfsc_bundle.retrieval import CrossWidth, Labels, cross_width, evaluate

WIDTHS = ("0.25", "0.5", "1.0")
IDENTITIES, SHOTS, DIMENSION = 12, 5, 6
LABELS = Labels(np.repeat(np.arange(IDENTITIES), SHOTS), image=np.arange(IDENTITIES * SHOTS))
Embeddings = dict[str, np.ndarray]


def embeddings(noise: dict[str, float], seed: int = 0) -> Embeddings:
    """Unit embeddings [60, 6] by width: a centre per identity, an offset per image, noise per width."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((IDENTITIES, DIMENSION)).repeat(SHOTS, axis=0)
    images = centres + 0.8 * random.standard_normal(centres.shape)
    found = {}
    for width, level in noise.items():
        rows = images + level * random.standard_normal(images.shape)
        found[width] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


ROWS = embeddings({"0.25": 1.0, "0.5": 0.5, "1.0": 0.2})
ALIKE = dict.fromkeys(WIDTHS, ROWS["1.0"])


def measured(
    rows: Embeddings, seed: int = 0, draws: int = DRAWS, shares: tuple[float, ...] = SHARES
) -> MixedGallery:
    return evaluate_mixed_gallery(rows, LABELS, rows, LABELS, seed=seed, draws=draws, shares=shares)


@pytest.fixture(scope="module")
def matrix() -> CrossWidth:
    return cross_width(ROWS, LABELS, ROWS, LABELS)


@given(st.lists(st.integers(0, len(WIDTHS) - 1), min_size=len(LABELS), max_size=len(LABELS)))
def test_every_item_has_the_vector_of_its_width(assignment: list[int]) -> None:
    mixed = mix(ROWS, np.array(assignment))
    for row, number in enumerate(assignment):
        assert np.array_equal(mixed[row], ROWS[WIDTHS[number]][row])


@pytest.mark.parametrize("number", range(len(WIDTHS)))
def test_a_gallery_of_one_width_is_a_column_of_the_matrix(matrix: CrossWidth, number: int) -> None:
    mixed = mix(ROWS, np.full(len(LABELS), number))
    column = [evaluate(ROWS[width], LABELS, mixed, LABELS).mean_ap for width in WIDTHS]
    assert column == [row[number] for row in matrix.mean_ap]


def test_the_curve_leads_from_the_narrowest_column_to_the_widest(matrix: CrossWidth) -> None:
    found = measured(ROWS)
    assert found.shares == SHARES
    assert found.curve[0] == tuple(row[0] for row in matrix.mean_ap)
    assert found.curve[-1] == tuple(row[-1] for row in matrix.mean_ap)
    assert found.curve[2] not in (found.curve[0], found.curve[-1])


def test_where_all_widths_agree_a_mixed_gallery_is_a_pure_one() -> None:
    found = measured(ALIKE)
    pure = evaluate(ROWS["1.0"], LABELS, ROWS["1.0"], LABELS)
    assert found.mean_ap == pytest.approx([pure.mean_ap] * 3)
    assert found.rank1 == pytest.approx([pure.rank1] * 3)
    assert found.mean_ap_spread == found.rank1_spread == (0.0, 0.0, 0.0)
    assert found.gaps(cross_width(ALIKE, LABELS, ALIKE, LABELS).mean_ap) == pytest.approx(
        (0.0, 0.0, 0.0), abs=1e-9
    )


def test_widths_that_share_no_space_leave_a_gap() -> None:
    """Each width's vectors alone are as good as the other's; in one gallery they cannot be compared."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((DIMENSION, DIMENSION)))
    apart = {"0.5": ROWS["1.0"], "1.0": (ROWS["1.0"] @ turn).astype(np.float32)}
    found, alone = measured(apart), evaluate(ROWS["1.0"], LABELS, ROWS["1.0"], LABELS).mean_ap
    assert max(found.mean_ap) < alone - 10


def test_gaps_are_to_the_mean_of_the_query_widths_row() -> None:
    found = dataclasses.replace(measured(ROWS), mean_ap=(50.0, 60.0, 70.0))
    assert found.gaps([[40, 50, 60], [60, 60, 60], [75, 75, 75]]) == (0.0, 0.0, -5.0)
    with pytest.raises(ValueError, match="shorter"):
        found.gaps([[40, 50, 60]])


def test_figures_are_those_of_the_galleries_that_the_seed_draws() -> None:
    """The draws come first, the order of the curve after them."""
    random = np.random.default_rng(7)
    drawn = [mix(ROWS, random.integers(3, size=len(LABELS))) for _ in range(4)]
    scores = [evaluate(ROWS["0.5"], LABELS, gallery, LABELS) for gallery in drawn]
    found = measured(ROWS, seed=7, draws=4)
    assert found.draws == 4
    assert found.mean_ap[1] == pytest.approx(fmean(one.mean_ap for one in scores))
    assert found.mean_ap_spread[1] == pytest.approx(stdev(one.mean_ap for one in scores))
    assert found.rank1[1] == pytest.approx(fmean(one.rank1 for one in scores))
    assert found.rank1_spread[1] == pytest.approx(stdev(one.rank1 for one in scores))


def test_equal_seeds_give_equal_figures_and_others_do_not() -> None:
    assert measured(ROWS, seed=3) == measured(ROWS, seed=3)
    assert measured(ROWS, seed=3).mean_ap != measured(ROWS, seed=4).mean_ap


def test_the_share_is_one_of_the_items_rounded(matrix: CrossWidth) -> None:
    found = measured(ROWS, draws=2, shares=(0.4 / len(LABELS), 0.6 / len(LABELS)))
    narrowest = tuple(row[0] for row in matrix.mean_ap)
    assert found.curve[0] == narrowest
    assert found.curve[1] != narrowest


def test_one_width_alone_is_never_mixed() -> None:
    alone = {"1.0": ROWS["1.0"]}
    pure = evaluate(ROWS["1.0"], LABELS, ROWS["1.0"], LABELS).mean_ap
    assert measured(alone).mean_ap == pytest.approx((pure,))


def test_fewer_than_two_draws_have_no_spread() -> None:
    with pytest.raises(ValueError, match="draws must be at least 2, or there is no spread, found 1"):
        measured(ROWS, draws=1)


def test_query_and_gallery_have_the_same_widths_in_the_same_order() -> None:
    for other in ({"0.25": ROWS["0.25"]}, dict(reversed(ROWS.items()))):
        with pytest.raises(ValueError, match="gallery must have the query's widths"):
            evaluate_mixed_gallery(ROWS, LABELS, other, LABELS)


def test_the_manifest_takes_every_figure_as_it_was_measured() -> None:
    found = measured(ROWS)
    kept = MixedQuality.model_validate(found, from_attributes=True)
    assert all(getattr(kept, name) == getattr(found, name) for name in MixedQuality.model_fields)
