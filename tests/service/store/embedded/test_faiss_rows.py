"""Which way faiss searches: a scan for few queries, a product of matrices for many; among all rows or some."""

from typing import Any, cast

import faiss
import numpy as np
import pytest

from sfsc_service.store.embedded.index import faiss_rows
from sfsc_service.store.embedded.index.faiss_rows import make_index
from tests.service.store.making import unit_vectors

ROWS, D, K = 4_000, 200, 50
ALWAYS, NEVER = 0, 2**31 - 1


@pytest.mark.parametrize(("queries", "product"), [(1, False), (3, False), (4, True), (64, True)])
def test_few_queries_are_scanned_and_many_multiplied(queries: int, product: bool) -> None:
    """The two ways add in another order, so the last digits of some of so many scores tell which was used."""
    variables = cast("Any", faiss).cvar
    rows = make_index(D, "cpu", 1)
    chosen = variables.distance_compute_blas_threshold
    rows.add(unit_vectors(1, ROWS, D))
    asked = unit_vectors(2, queries, D)
    scores = {}
    try:
        for name, threshold in (("chosen", chosen), (True, ALWAYS), (False, NEVER)):
            variables.distance_compute_blas_threshold = threshold
            scores[name] = rows.search(asked, K, None)[0]
    finally:
        variables.distance_compute_blas_threshold = chosen
    assert not np.array_equal(scores[True], scores[False])
    assert np.array_equal(scores["chosen"], scores[product])


@pytest.mark.parametrize("queries", [1, 3, 4, 17])
@pytest.mark.parametrize("kept", [1, 30, 1_000, 1_500, 3_999, ROWS])
def test_what_a_mask_leaves_out_is_not_found(queries: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a bitmap, by positions, or with rows copied side by side, in three pieces here."""
    monkeypatch.setattr(faiss_rows, "_COPIED_BYTES", 4 * D * 700)
    monkeypatch.setattr(faiss_rows, "_MIN_PART_ROWS", 2_500)
    rows, vectors = make_index(D, "cpu", 2, [unit_vectors(1, ROWS // 2, D)]), unit_vectors(3, ROWS // 2, D)
    rows.add(vectors)
    asked = unit_vectors(2, queries, D)
    mask = np.zeros(ROWS, np.bool_)
    mask[np.random.default_rng(1).choice(ROWS, kept, replace=False)] = True
    scores, positions = rows.search(asked, K, mask)
    expected = np.where(mask, asked.astype(np.float64) @ rows.take(np.arange(ROWS)).T.astype(np.float64), -np.inf)
    best = np.argsort(-expected, axis=1)[:, :K]
    found = min(K, kept)
    assert np.array_equal(positions, best[:, :found])
    assert np.allclose(scores, np.take_along_axis(expected, best, axis=1)[:, :found], atol=1e-6)
