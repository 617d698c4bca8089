"""Maps in closed form: least squares near a rotation, and what they do to vectors."""

import numpy as np
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_bundle.linear_maps import Moments, apply_map, unit_length
from sfsc_bundle.runner import make_runner
from tests.tiny_bundle import make_tiny_bundle

D = 6


def rows(count: int, seed: int, rank: int = D) -> np.ndarray:
    random = np.random.default_rng(seed)
    return unit_length(random.standard_normal((count, rank)) @ random.standard_normal((rank, D)))


def test_least_squares_near_a_rotation_is_that_of_rows_and_penalty_together() -> None:
    found, target, strength = rows(40, 1), rows(40, 2), 0.3
    moments = Moments.of(found, target)
    weight = np.sqrt(strength * len(found) / D)
    stacked = np.vstack([found, weight * np.eye(D)]), np.vstack([target, weight * moments.rotation])
    assert np.allclose(moments.near_rotation(strength), np.linalg.lstsq(*stacked, rcond=None)[0])
    assert np.allclose(moments.near_rotation(1e9), moments.rotation, atol=1e-6)
    assert np.allclose(moments.near_rotation(1e-12), np.linalg.lstsq(found, target, rcond=None)[0], atol=1e-6)


def test_it_has_an_inverse_where_the_rows_leave_directions_open() -> None:
    moments = Moments.of(rows(40, 3, rank=2), rows(40, 4, rank=2))
    assert np.linalg.cond(moments.near_rotation(0.1)) < 100
    assert np.linalg.cond(moments.ridge(0.1)) > 1e6


def test_a_map_and_its_inverse_bring_unit_vectors_back() -> None:
    found = rows(40, 5)
    values = Moments.of(found, rows(40, 6)).near_rotation(0.1)
    mapped = apply_map(found, values)
    assert mapped.dtype == np.float32
    assert np.allclose(np.linalg.norm(mapped, axis=1), 1)
    assert np.allclose(apply_map(mapped, np.linalg.inv(values)), found, atol=1e-5)


def test_what_has_no_direction_becomes_nan() -> None:
    assert np.isnan(apply_map(np.zeros((1, D), np.float32), np.eye(D, dtype=np.float32))).all()


@pytest.fixture
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


def test_a_runner_multiplies_by_its_map(bundle: Bundle) -> None:
    images = np.random.default_rng(7).integers(0, 256, (5, 16, 16, 3), np.uint8)
    values = np.random.default_rng(8).standard_normal((16, 16)).astype(np.float32)
    expected = apply_map(make_runner(bundle, "0.5")(images), values)
    assert np.array_equal(make_runner(bundle, "0.5", map=values)(images), expected)
