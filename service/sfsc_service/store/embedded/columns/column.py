"""One field of all items: every value as a code from a dictionary, but numbers as they are where many differ.

A field takes 4 bytes an item, one of many different numbers 12. A number that float64 does not hold exactly has a
code in any case.
"""

import operator
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import compress
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.growable_array import GrowableArray
from sfsc_service.store.filters.terms import Comparison, Scalar, identity

__all__ = ["Column", "ColumnContents", "Mask"]

Mask = npt.NDArray[np.bool_]

_MISSING, _NUMBER, _FIRST_CODE = 0, 1, 2
# A dictionary's entry beside the value itself; an element of a set.
_ENTRY_BYTES = 150
_ELEMENT_BYTES = 100
# With more different numbers than these, a field has them as they are.
_MOST_CODED_NUMBERS = 1_024
# For more values than these, one pass with a table costs less than one for each.
_FEW_VALUES = 8
_COMPARE: dict[Comparison, Callable[[Any, Any], Any]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


class ColumnContents(NamedTuple):
    """What a column holds; nothing of it is ever altered.

    `values`: of the codes, from the first one that is neither missing nor a number that stands in `numbers` on.
    """

    codes: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.float64]
    values: list[Hashable]
    numbers_apart: bool


class Column:
    """Masks are [n], n ≤ rows: the field is missing in all rows after the last one that has it."""

    def __init__(self) -> None:
        self._codes: GrowableArray[np.int32] = GrowableArray(np.int32)
        self._numbers: GrowableArray[np.float64] = GrowableArray(np.float64)
        self._code_of: dict[Hashable, int] = {}
        self._dictionary_bytes = 0
        self._coded_numbers = 0
        self._numbers_apart = False

    @property
    def nbytes(self) -> int:
        """About what it takes of memory."""
        return self._codes.nbytes + self._numbers.nbytes + self._dictionary_bytes

    @classmethod
    def of(cls, contents: ColumnContents) -> Self:
        """Raises ValueError: they are no contents of a column."""
        column = cls()
        codes = contents.codes
        if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < _FIRST_CODE + len(contents.values):
            raise ValueError("a code has no value")
        if len(contents.numbers) > len(codes) or len(set(contents.values)) < len(contents.values):
            raise ValueError("there are more numbers than rows, or a value twice")
        column._codes = GrowableArray(np.int32, (), [codes])
        column._numbers = GrowableArray(np.float64, (), [contents.numbers])
        column._code_of = {value: code for code, value in enumerate(contents.values, _FIRST_CODE)}
        column._dictionary_bytes = sum(map(_size, column._code_of))
        column._coded_numbers = sum(map(_is_plain_number, column._code_of))
        column._numbers_apart = contents.numbers_apart
        return column

    @property
    def contents(self) -> ColumnContents:
        # Codes are given in the order of the dictionary.
        return ColumnContents(self._codes.view(), self._numbers.view(), list(self._code_of), self._numbers_apart)

    def extend(self, rows: Sequence[int], values: Sequence[Hashable]) -> None:
        """Note the values of further rows, which ascend and come after all before."""
        codes = [
            code or self._code(value) for code, value in zip(map(self._code_of.get, values), values, strict=True)
        ]
        _put(self._codes, rows, codes, _MISSING)
        if self._numbers_apart and any(plain := [code == _NUMBER for code in codes]):
            _put(self._numbers, list(compress(rows, plain)), list(compress(values, plain)), np.nan)
        elif self._coded_numbers > _MOST_CODED_NUMBERS:
            self._set_numbers_apart()

    def keep(self, rows: Int64) -> None:
        """Keep only these rows, which ascend; they are counted from 0 again."""
        codes, numbers = self._codes.view(), self._numbers.view()
        codes, numbers = codes[rows[rows < len(codes)]], numbers[rows[rows < len(numbers)]]
        used = np.zeros(_FIRST_CODE + len(self._code_of), np.bool_)
        used[codes] = True
        self._numbers = GrowableArray(np.float64, (), [numbers])
        self._use_codes(codes, used)

    def _set_numbers_apart(self) -> None:
        codes, known = self._codes.view(), _FIRST_CODE + len(self._code_of)
        value_of, other = np.full(known, np.nan), np.ones(known, np.bool_)
        for value, code in self._code_of.items():
            if _is_plain_number(value):
                value_of[code], other[code] = value, False
        self._numbers = GrowableArray(np.float64, (), [value_of[codes]])
        self._numbers_apart = True
        self._use_codes(np.where(other[codes], codes, np.int32(_NUMBER)), other)

    def _use_codes(self, codes: npt.NDArray[np.int32], used: Mask) -> None:
        """Have these codes, all of which are `used`, and forget the values of others."""
        used[:_FIRST_CODE] = True
        fresh = np.cumsum(used) - 1
        self._codes = GrowableArray(np.int32, (), [fresh[codes]])
        self._code_of = {value: int(fresh[code]) for value, code in self._code_of.items() if used[code]}
        self._dictionary_bytes = sum(map(_size, self._code_of))
        self._coded_numbers = sum(map(_is_plain_number, self._code_of))

    def exists(self) -> Mask:
        found: Mask = self._codes.view() != _MISSING
        return found

    def equals(self, values: Iterable[Scalar]) -> Mask:
        """Which are equal to one of `values`."""
        identities = {identity(value) for value in values}
        numbers: list[Any] = [value for value in identities if _is_plain_number(value)]
        found = self._with_codes([self._code_of[value] for value in identities if value in self._code_of])
        if numbers and len(self._numbers):
            stored = self._numbers.view()
            if len(numbers) <= _FEW_VALUES:
                for number in numbers:
                    found[: len(stored)] |= stored == number
            else:
                found[: len(stored)] |= np.isin(stored, np.array(numbers, np.float64))
        return found

    def compares(self, comparison: Comparison, bound: str | int | float) -> Mask:
        """Which are of the bound's kind, number or text, and compare with it so."""
        compare = _COMPARE[comparison]
        kind = str if isinstance(bound, str) else (int, float)
        found = self._with_codes(
            [c for v, c in self._code_of.items() if isinstance(v, kind) and compare(v, bound)]
        )
        if not isinstance(bound, str):
            stored = self._numbers.view()
            compare, limit = _exact(comparison, bound)
            found[: len(stored)] |= compare(stored, limit)
        return found

    def contains(self, value: Scalar) -> Mask:
        """Which are lists with this element."""
        wanted = identity(value)
        return self._with_codes([c for v, c in self._code_of.items() if isinstance(v, frozenset) and wanted in v])

    def _code(self, value: Hashable) -> int:
        is_number = _is_plain_number(value)
        if is_number and self._numbers_apart:
            return _NUMBER
        code = self._code_of.get(value)
        if code is None:
            code = self._code_of[value] = _FIRST_CODE + len(self._code_of)
            self._dictionary_bytes += _size(value)
            self._coded_numbers += is_number
        return code

    def _with_codes(self, codes: Sequence[int]) -> Mask:
        stored = self._codes.view()
        if not codes:
            return np.zeros(len(stored), np.bool_)
        if len(codes) == 1:
            found: Mask = stored == codes[0]
            return found
        table = np.zeros(_FIRST_CODE + len(self._code_of), np.bool_)
        table[codes] = True
        return np.take(table, stored)


def _put(array: GrowableArray[Any], rows: Sequence[int], values: Sequence[Any], missing: float) -> None:
    start = len(array)
    fresh = np.full(rows[-1] + 1 - start, missing, array.view().dtype)
    fresh[np.asarray(rows) - start] = values
    array.extend(fresh)


def _is_plain_number(value: Hashable) -> bool:
    """Whether it is a number that float64 holds exactly."""
    return isinstance(value, float) or (isinstance(value, int) and float(value) == value)


def _exact(comparison: Comparison, bound: int | float) -> tuple[Callable[[Any, Any], Any], float]:
    """A comparison with a float64 that holds for the same float64 numbers as the one with `bound`."""
    limit = float(bound)
    if limit == bound:
        return _COMPARE[comparison], limit
    # No float64 lies between the bound and the one that is nearest to it.
    below = comparison in ("$lt", "$lte")
    if limit > bound:
        return (operator.lt if below else operator.ge), limit
    return (operator.le if below else operator.gt), limit


def _size(value: Hashable) -> int:
    elements = sum(_ELEMENT_BYTES + len(str(one)) for one in value) if isinstance(value, frozenset) else 0
    return _ENTRY_BYTES + sys.getsizeof(value) + elements
