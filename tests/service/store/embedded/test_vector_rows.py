"""Rows of an index: which are live above a number, also where long runs of them are deleted."""

import numpy as np
import pytest

from sfsc_service.store.embedded.index.faiss_rows import make_index
from sfsc_service.store.embedded.index.vector_rows import VectorRows
from tests.service.store.making import unit_vectors

COUNT, D = 300, 8


@pytest.mark.parametrize("limit", [None, 1, 7, 64, 500])
def test_live_positions_after_a_number(limit):
    rows, sequences = VectorRows(make_index(D, "cpu", 1)), np.arange(0, 2 * COUNT, 2)
    rows.append(sequences, unit_vectors(0, COUNT, D))
    rows.mark_deleted(np.r_[5:200, 250:252, COUNT - 3 : COUNT])
    live = np.flatnonzero(rows.live)
    for after in (-1, 0, 3, 8, 400, 495, 503, 599):
        expected = live[sequences[live] > after][:limit]
        assert np.array_equal(rows.live_positions_after(after, limit), expected)
