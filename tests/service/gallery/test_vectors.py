"""Vectors as callers write them."""

import base64
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfsc_service.errors import Problem
from sfsc_service.gallery.vectors import encode_vector, unit_vector, unit_vectors

numbers = st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4).filter(lambda v: float(np.linalg.norm(v)) > 1e-6)


@pytest.mark.parametrize("size", [1e300, 1e39, 1e-39, 1e-300, 5e-324])
def test_any_size_has_a_direction(size: float) -> None:
    np.testing.assert_allclose(
        unit_vector([size, 0.0, -size, 0.0], 4), [0.5**0.5, 0.0, -(0.5**0.5), 0.0], rtol=1e-6
    )


@given(numbers)
def test_a_vector_keeps_its_direction_and_gets_unit_length(given_: list[float]) -> None:
    vector = unit_vector(given_, 4)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(
        vector * np.linalg.norm(given_), given_, rtol=1e-4, atol=1e-5 * np.linalg.norm(given_)
    )


@given(numbers)
def test_what_was_answered_comes_back_bit_for_bit(given_: list[float]) -> None:
    vector = unit_vector(given_, 4)
    for written in (vector.tolist(), encode_vector(vector, "base64")):
        again = unit_vector(written, 4)
        if abs(float(np.linalg.norm(vector.astype(np.float64))) - 1.0) <= 1e-6:
            assert again.tobytes() == vector.tobytes()


@pytest.mark.parametrize(
    ("written", "kind", "found"),
    [
        ([1.0], "dimension_mismatch", "found 1"),
        ([0.0] * 4, "vector_invalid", "only zeros"),
        ([1.0, float("nan"), 1.0, 1.0], "vector_invalid", "nan at 1"),
        ([1.0, 1.0, float("inf"), 1.0], "vector_invalid", "inf at 2"),
        ("AAA", "vector_invalid", "base64"),
        ("AAAA", "vector_invalid", "float32"),
        ("§", "vector_invalid", "base64"),
        (base64.b64encode(b"\0" * 16).decode(), "vector_invalid", "only zeros"),
        (base64.b64encode(b"\0" * 20).decode(), "dimension_mismatch", "found 5"),
    ],
)
def test_what_is_no_vector(written: list[float] | str, kind: str, found: str) -> None:
    with pytest.raises(Problem) as caught:
        unit_vector(written, 4)
    assert (caught.value.code, caught.value.parameter) == (kind, "vector")
    assert found in caught.value.detail


def test_many_are_read_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    unit = rng.standard_normal((4, 8))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    sent: list[Any] = [
        unit[0].tolist(),
        base64.b64encode(unit[1].astype("<f4").tobytes()).decode(),
        (3 * unit[2]).tolist(),
        base64.b64encode((1e30 * unit[3]).astype("<f4").tobytes()).decode(),
        [1e300] * 8,
        [0.0] * 8,
        [1.0] * 7,
        [1.0] * 7 + [math.nan],
        [2**2000] * 8,
        "no base64",
        "AAAA",
        base64.b64encode(np.full(8, np.inf, "<f4").tobytes()).decode(),
        (unit[0] * (1 + 3e-7)).tolist(),
    ]

    def shown(found: Callable[[], Any]) -> Any:
        try:
            vector = found()
        except Problem as problem:
            vector = problem
        return (vector.code, vector.detail) if isinstance(vector, Problem) else vector.tobytes()

    together = [shown(lambda one=one: one) for one in unit_vectors(sent, 8)]
    assert together == [shown(lambda one=one: unit_vector(one, 8)) for one in sent]
    assert sum(isinstance(one, tuple) for one in together) == 7
    assert unit_vectors([], 8) == []
