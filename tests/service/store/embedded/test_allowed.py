"""Where allowed versions are among the rows of an index, whichever way is the shortest to find out."""

import numpy as np
import pytest

from sfsc_service.store.embedded.index.allowed import Allowed

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
    assert allowed.positions_in(rows).tolist() == [at for at, row in enumerate(rows.tolist()) if row in wanted]
    left = allowed.without([7, 3_000, 50])
    assert set(left.versions.tolist()) == wanted - {7, 3_000, 50}
