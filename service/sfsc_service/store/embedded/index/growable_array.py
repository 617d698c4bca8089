"""An array that grows at its end in amortised constant time."""

from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["GrowableArray"]

Scalar = TypeVar("Scalar", bound=np.generic)


class GrowableArray(Generic[Scalar]):
    def __init__(self, dtype: type[Scalar]) -> None:
        self._buffer: npt.NDArray[Scalar] = np.empty(1_024, dtype)
        self._count = 0

    def view(self) -> npt.NDArray[Scalar]:
        """The array [n] itself, writable; `extend` may move the data, so do not keep it beyond the next call."""
        return self._buffer[: self._count]

    def extend(self, values: npt.NDArray[Any]) -> None:
        needed = self._count + len(values)
        if needed > len(self._buffer):
            grown = np.empty(max(needed, 2 * len(self._buffer)), self._buffer.dtype)
            grown[: self._count] = self.view()
            self._buffer = grown
        self._buffer[self._count : needed] = values
        self._count = needed
