"""How faiss is set: a scan for few queries, a product of matrices for many. Both give the same hits."""

from typing import Any, cast

import faiss
import numpy as np
import pytest

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
