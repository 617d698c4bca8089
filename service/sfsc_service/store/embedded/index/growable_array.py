"""An array that grows at its end in amortised constant time."""

import weakref
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["GrowableArray", "GrowthComparison"]

Scalar = TypeVar("Scalar", bound=np.generic)

_SPARE = 1_024


class GrowableArray(Generic[Scalar]):
    """An array [n] or, of rows of `row_shape`, [n, …], filled with `pieces` and room for a quarter more."""

    def __init__(
        self, dtype: type[Scalar], row_shape: tuple[int, ...] = (), pieces: Sequence[npt.NDArray[Any]] = ()
    ) -> None:
        count = sum(map(len, pieces))
        self._buffer: npt.NDArray[Scalar] = np.empty((count + count // 4 + _SPARE, *row_shape), dtype)
        self._count = 0
        for piece in pieces:
            self.extend(piece)

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Of the array and the room behind it."""
        return self._buffer.nbytes

    def view(self) -> npt.NDArray[Scalar]:
        """The array itself, writable; `extend` may move the data, so do not keep it beyond the next call."""
        return self._buffer[: self._count]

    def extend(self, values: npt.NDArray[Any]) -> None:
        needed = self._count + len(values)
        if needed > len(self._buffer):
            grown = np.empty((max(needed, 2 * len(self._buffer)), *self._buffer.shape[1:]), self._buffer.dtype)
            grown[: self._count] = self.view()
            self._buffer = grown
        self._buffer[self._count : needed] = values
        self._count = needed


class GrowthComparison:
    """Whether two arrays are equal that are never altered and grow at their ends.

    What was found equal once is not compared again, as long as neither was moved. May be called in parallel.
    """

    def __init__(self) -> None:
        self._known: tuple[weakref.ref[Any], int, weakref.ref[Any], int, int] | None = None

    def __call__(self, first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
        if len(first) != len(second):
            return False
        known, compared = self._known, 0
        if known is not None and _stands_at(first, *known[:2]) and _stands_at(second, *known[2:4]):
            compared = min(known[4], len(first))
        if not np.array_equal(first[compared:], second[compared:]):
            return False
        if len(first) > compared:
            places = (weakref.ref(_buffer(first)), first.ctypes.data, weakref.ref(_buffer(second)))
            self._known = (*places, second.ctypes.data, len(first))
        return True


def _buffer(array: npt.NDArray[Any]) -> Any:
    return array if array.base is None else array.base


def _stands_at(array: npt.NDArray[Any], buffer: "weakref.ref[Any]", start: int) -> bool:
    """Whether it begins at `start` in a buffer that is still there."""
    return buffer() is _buffer(array) and array.ctypes.data == start
