"""Vectors as clients send and receive them: JSON numbers, or base64 of little-endian float32."""

import base64
import binascii
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sfsc_service.errors import Problem

__all__ = ["encode_vector", "unit_rows", "unit_vector", "unit_vectors"]

Vector = npt.NDArray[np.float32]

UNIT = 1e-6
"""A vector whose length is this close to 1 is kept bit for bit."""


def unit_vector(sent: Sequence[float] | str, dimension: int, parameter: str = "vector") -> Vector:
    """Read a vector and bring it to unit length: float32 [dimension].

    Raises:
        Problem: vector_invalid (not numbers, not finite, all zero), dimension_mismatch.
    """
    values = _read(sent, dimension, parameter).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(np.dot(values, values))
    if abs(square - 1.0) <= UNIT:  # as almost all are; the checks below take longer than that
        return values.astype(np.float32)
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise Problem(
            "vector_invalid", f"{parameter}: numbers must be finite, found {values[at]} at {at}", parameter
        )
    peak = float(np.abs(values).max())
    if not peak:
        raise Problem("vector_invalid", f"{parameter}: must have a direction, found only zeros", parameter)
    scaled = values / peak  # squares of very large and very small numbers would leave the range of floats
    length = float(np.linalg.norm(scaled))
    if abs(length * peak - 1.0) > UNIT:
        values = scaled / length
    return values.astype(np.float32)


def unit_vectors(sent: Sequence[Sequence[float] | str], dimension: int) -> list[Vector | Problem]:
    """What `unit_vector` gives for each, or the problem that it raises."""
    values = np.zeros((len(sent), dimension))
    problems = dict[int, Problem]()
    for row, one in enumerate(sent):
        try:
            values[row] = _read(one, dimension, "vector")
        except Problem as problem:
            problems[row] = problem.with_traceback(None)  # its frames hold the list of all problems
    with np.errstate(over="ignore", invalid="ignore"):
        is_unit = np.abs(np.einsum("nd,nd->n", values, values) - 1.0) <= UNIT
        unit = values.astype(np.float32)
    for row in np.flatnonzero(~is_unit).tolist():
        if row not in problems:
            try:
                unit[row] = unit_vector(sent[row], dimension)
            except Problem as problem:
                problems[row] = problem.with_traceback(None)
    return [problems.get(row, vector) for row, vector in enumerate(unit)]


def unit_rows(matrix: Vector) -> tuple[Vector, npt.NDArray[np.bool_]]:
    """Rows [n, D] at unit length, by the rule of `unit_vector`, and which have no direction: those stay."""
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.sqrt(np.einsum("nd,nd->n", matrix, matrix, dtype=np.float64))
        bad = ~(np.isfinite(lengths) & (lengths > 0))
        scaled = ~bad & (np.abs(lengths - 1.0) > UNIT)
    if scaled.any():
        matrix = matrix.copy()
        matrix[scaled] = (matrix[scaled] / lengths[scaled, None]).astype(np.float32)
    return matrix, bad


def encode_vector(vector: Vector, encoding: str) -> Vector | str:
    """A vector for a JSON answer: itself for `float`, base64 of little-endian float32 for `base64`."""
    if encoding == "float":
        return vector
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def _read(sent: Sequence[float] | str, dimension: int, parameter: str) -> npt.NDArray[np.floating]:
    if isinstance(sent, str):
        values = _from_base64(sent, parameter)
        _check_dimension(len(values), dimension, parameter)
        return values
    _check_dimension(len(sent), dimension, parameter)  # first: many numbers take long to convert
    return _from_numbers(sent, parameter)


def _check_dimension(found: int, dimension: int, parameter: str) -> None:
    if found != dimension:
        detail = f"{parameter}: must have {dimension} numbers, found {found}"
        raise Problem("dimension_mismatch", detail, parameter)


def _from_numbers(sent: Sequence[float], parameter: str) -> npt.NDArray[np.float64]:
    try:
        return np.array(sent, dtype=np.float64)
    except (OverflowError, ValueError, TypeError) as error:
        raise Problem("vector_invalid", f"{parameter}: must be numbers, found {error}", parameter) from error


def _from_base64(sent: str, parameter: str) -> Vector:
    try:
        data = base64.b64decode(sent, validate=True)
        return np.frombuffer(data, dtype="<f4")
    except (binascii.Error, ValueError) as error:
        raise Problem(
            "vector_invalid", f"{parameter}: must be base64 of little-endian float32: {error}", parameter
        ) from error
