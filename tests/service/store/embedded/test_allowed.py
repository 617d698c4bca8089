"""Where allowed versions are among the rows of an index, whichever way is the shortest to find out."""

import numpy as np
import pytest

from sfsc_service.store.embedded.index.allowed import Allowed
from sfsc_service.store.embedded.index.growable_array import GrowableArray, GrowthComparison

COUNT = 1_000
SAME, GAPS, SPARSE = np.arange(5, 5 + COUNT), np.arange(0, 3 * COUNT, 3), np.arange(0, 10**6, 1_000)


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.6, 1.0])
@pytest.mark.parametrize(
    "rows", [SAME, GAPS, SPARSE, np.empty(0, np.int64)], ids=["same", "gaps", "sparse", "none"]
)
@pytest.mark.parametrize(
    "sequences", [SAME, GAPS, SPARSE, np.empty(0, np.int64)], ids=["same", "gaps", "sparse", "none"]
)
def test_positions(sequences: np.ndarray, rows: np.ndarray, kept: float) -> None:  # type: ignore[type-arg]
    allowed = Allowed(sequences, np.random.default_rng(1).random(len(sequences)) < kept)
    wanted = set(sequences[allowed.mask].tolist())
    assert allowed.size == len(wanted)
    expected = [at for at, row in enumerate(rows.tolist()) if row in wanted]
    assert allowed.positions_in(rows).tolist() == expected
    assert np.flatnonzero(allowed.mask_in(rows)).tolist() == expected
    left = allowed.without([7, 3_000, 50])
    assert set(left.versions.tolist()) == wanted - {7, 3_000, 50}


def test_arrays_that_grow_are_compared_where_they_grew() -> None:
    equal, arrays = GrowthComparison(), [GrowableArray(np.int64), GrowableArray(np.int64)]
    for turn in range(6):  # at the fifth, both move
        for array in arrays:
            array.extend(np.arange(turn * 300, turn * 300 + 300))
        assert equal(*(array.view() for array in arrays))
        assert not equal(arrays[0].view(), arrays[1].view()[:-1])
    arrays[0].extend(np.array([5_000, 5_001]))
    arrays[1].extend(np.array([5_000, 5_002]))
    assert not equal(*(array.view() for array in arrays))
    assert equal(*(array.view()[:-1] for array in arrays))
    fresh = arrays[1].view().copy()
    assert not equal(arrays[0].view(), fresh)
    fresh[3] = fresh[-1] = -1
    assert not equal(arrays[0].view(), fresh)
    assert not equal(arrays[0].view()[1:-1], arrays[1].view()[:-2])
