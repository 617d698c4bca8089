"""Quantised rows in several parts give what the same rows give in one."""

import numpy as np
import pytest

from sfsc_service.store.embedded.index.quantised_rows import QuantisedRows

ROWS, DIMENSION = 1_000, 16
PART_ROWS = 256


@pytest.fixture(scope="module")
def vectors():
    drawn = np.random.default_rng(0).standard_normal((ROWS, DIMENSION)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def filled(vectors, threads, part_rows):
    """Rows numbered 5, 10, 15 …, added 100 at a time, so that some calls fill more than one part."""
    rows = QuantisedRows("int8", vectors, ROWS, threads, part_rows)
    numbers = 5 * np.arange(1, ROWS + 1)
    for first in range(0, ROWS, 100):
        rows.add(numbers[first : first + 100], vectors[first : first + 100])
    return rows


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("wanted", [1, 10, PART_ROWS + 1, ROWS])
@pytest.mark.parametrize("queries", [1, 9])
def test_parts_give_what_one_gives(vectors, threads, wanted, queries):
    whole, parts = filled(vectors, 1, ROWS), filled(vectors, threads, PART_ROWS)
    assert len(parts) == len(whole) == ROWS
    expected, found = whole.search(vectors[:queries], wanted), parts.search(vectors[:queries], wanted)
    assert found.shape == (queries, wanted)
    assert np.array_equal(np.sort(found), np.sort(expected))
    assert (found[:, 0] == 5 * np.arange(1, queries + 1)).all()
