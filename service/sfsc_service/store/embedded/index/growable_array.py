"""An array that grows at its end in amortised constant time."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["GrowableArray"]

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
