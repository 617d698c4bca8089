"""When a difference over a few identities is more than chance, and what follows from it for an export."""

import numpy as np
import pytest
from rich.console import Console

from sfsc_training.data.dataset import Split
from sfsc_training.sign_flips import probability_of_less
from sfsc_training.untouched import _lower_by_more_than_chance


@pytest.mark.parametrize(
    ("differences", "probability"),
    [
        ([-1.0] * 5, 1 / 32),
        ([-1.0] * 4, 1 / 16),
        ([-50.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1 / 2),  # one identity lost much, the others are saturated
        ([-3.0, -2.0, 1.0], 2 / 8),
        ([0.0] * 5, 1.0),
        ([1.0] * 5, 1.0),
    ],
)
def test_every_choice_of_signs_counts(differences, probability):
    assert probability_of_less(np.array(differences)) == probability


def split_of(identities: int) -> Split:
    """Two images of each identity; every one queries all others."""
    every = np.arange(2 * identities)
    names = tuple(f"{number}.png" for number in every)
    return Split(names, names, names, every // 2, tuple(map(str, range(identities))), None, every, every)


def embeddings(identities: int, lost: int):
    """Images of one identity are alike, but for the first `lost` ones: each finds the other image last."""
    rows = np.repeat(np.eye(identities, dtype=np.float32), 2, axis=0)
    rows[: 2 * lost : 2] *= -1
    return rows


@pytest.mark.parametrize(
    ("identities", "lost", "replaced"), [(6, 4, False), (6, 5, True), (20, 4, False), (20, 5, True)]
)
def test_a_loss_on_validation_replaces_the_trained_network_only_beyond_chance(capsys, identities, lost, replaced):
    split = split_of(identities)
    before, after = embeddings(identities, 0), embeddings(identities, lost)
    reason = _lower_by_more_than_chance(split, before, after, Console())
    assert (reason is not None) is replaced
    told = reason or " ".join(capsys.readouterr().out.split())
    assert f"on {identities} validation identities, the untouched network 100.0 (as low by chance: " in told
    assert _lower_by_more_than_chance(split, after, before, Console()) is None
    assert _lower_by_more_than_chance(split, before, before, Console()) is None
