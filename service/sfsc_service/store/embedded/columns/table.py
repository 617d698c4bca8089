"""All columns, row by row as versions were added, and which rows meet a filter.

A field that has no column because of the memory limit cannot be judged here: `select` then answers None.
Not thread-safe.
"""

import logging
from collections.abc import Collection, Hashable
from functools import reduce
from typing import NamedTuple, Self, assert_never

import numpy as np

from sfsc_service.store.embedded.changes import Int64, Versions
from sfsc_service.store.embedded.columns.column import Column, ColumnContents, Mask
from sfsc_service.store.embedded.columns.fields import Found, MetadataFields
from sfsc_service.store.embedded.index.allowed import Allowed
from sfsc_service.store.embedded.index.growable_array import GrowableArray
from sfsc_service.store.filters.terms import (
    And,
    Compares,
    Contains,
    Equals,
    Exists,
    Field,
    ItemField,
    MetadataField,
    Not,
    Or,
    Term,
)

__all__ = ["ColumnTable", "FieldValues", "TableContents", "read_fields"]

_MAX_FIELDS = 1_000
# Tombstones are removed when there are so many, and more of them than other rows.
_MIN_TOMBSTONES = 16_384

_log = logging.getLogger(__name__)


class FieldValues(NamedTuple):
    """Versions with their fields: for each field, the rows that have it, counted from 0, and its values there."""

    sequences: Int64
    fields: dict[Field, Found]


class TableContents(NamedTuple):
    """What a table holds, tombstones among it; nothing of it is ever altered.

    `complete`: whether every field that the versions have is among the columns.
    """

    sequences: Int64
    columns: dict[Field, ColumnContents]
    complete: bool


class _NotHeldError(Exception):
    """A field has no column, and may be in the metadata all the same."""


def read_fields(versions: Versions) -> FieldValues:
    """The fields of versions; those whose metadata are damaged are left out."""
    sequences: list[int] = []
    found = MetadataFields()
    widths: list[Hashable] = []
    times: list[Hashable] = []
    columns = (versions.sequences.tolist(), versions.widths, versions.created, versions.metadata)
    for sequence, width, created, metadata in zip(*columns, strict=True):
        try:
            found.add(len(sequences), metadata)
        except ValueError:
            continue
        sequences.append(sequence)
        widths.append(width)
        times.append(created)
    every = list(range(len(sequences)))
    fields: dict[Field, Found] = {MetadataField(path): one for path, one in found.by_path().items()}
    if sequences:
        fields |= {ItemField("width"): (every, widths), ItemField("created"): (every, times)}
    return FieldValues(np.array(sequences, np.int64), fields)


class ColumnTable:
    """`memory_bytes`: about what all columns may take."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._sequences: GrowableArray[np.int64] = GrowableArray(np.int64)
        self._live: GrowableArray[np.bool_] = GrowableArray(np.bool_)
        self._columns: dict[Field, Column] = {}
        self._complete = True

    @classmethod
    def of(cls, contents: TableContents, live: Mask, memory_bytes: int) -> Self:
        """The versions that are `live` [n] of some contents. Raises ValueError: they are no table's."""
        sequences = contents.sequences
        if (np.diff(sequences) <= 0).any():
            raise ValueError("the numbers of the versions do not ascend")
        if any(len(column.codes) > len(sequences) for column in contents.columns.values()):
            raise ValueError("a column is longer than the table")
        table = cls(memory_bytes)
        table._sequences = GrowableArray(np.int64, (), [sequences])
        table._live = GrowableArray(np.bool_, (), [live])
        table._columns = {field: Column.of(column) for field, column in contents.columns.items()}
        table._complete = contents.complete
        table._forget_tombstones()
        table._limit_memory()
        return table

    @property
    def contents(self) -> TableContents:
        columns = {field: column.contents for field, column in self._columns.items()}
        return TableContents(self._sequences.view(), columns, self._complete)

    @property
    def last_sequence(self) -> int:
        """The highest number of a version; 0 where there is none."""
        return int(self._sequences.view()[-1]) if len(self) else 0

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self._columns.values())

    def append(self, versions: FieldValues) -> None:
        """Add versions that are newer than all before."""
        first = len(self)
        self._sequences.extend(versions.sequences)
        self._live.extend(np.ones(len(versions.sequences), np.bool_))
        self._admit(versions.fields.keys() - self._columns.keys())
        for field, (rows, values) in versions.fields.items():
            if column := self._columns.get(field):
                column.extend([first + row for row in rows] if first else rows, values)
        self._limit_memory()

    def remove(self, sequences: Int64) -> None:
        """Remove versions; unknown ones are passed over."""
        known, live = self._sequences.view(), self._live.view()
        positions = Allowed.all_of(np.sort(sequences)).positions_in(known)
        live[positions] = False
        self._forget_tombstones()

    def _forget_tombstones(self) -> None:
        """Where there are many of them."""
        known, live = self._sequences.view(), self._live.view()
        kept = int(np.count_nonzero(live))
        if len(live) - kept > max(kept, _MIN_TOMBSTONES):
            rows = np.flatnonzero(live)
            for column in self._columns.values():
                column.keep(rows)
            self._sequences = GrowableArray(np.int64, (), [known[rows]])
            self._live = GrowableArray(np.bool_, (), [live[rows]])

    def select(self, term: Term) -> Allowed | None:
        """The versions that meet a filter, valid until the next change; None where columns do not tell."""
        try:
            return Allowed(self._sequences.view(), self._meets(term) & self._live.view())
        except _NotHeldError:
            return None

    def _meets(self, term: Term) -> Mask:
        match term:
            case And():
                return reduce(np.logical_and, map(self._meets, term.terms))
            case Or():
                return reduce(np.logical_or, map(self._meets, term.terms))
            case Not():
                return ~self._meets(term.term)
            case Equals() | Compares() | Exists() | Contains():
                column = self._column(term.field)
                mask = np.zeros(0, np.bool_) if column is None else _judged(column, term)
                if len(mask) == len(self):
                    return mask
                found = np.zeros(len(self), np.bool_)
                found[: len(mask)] = mask
                return found
            case _:
                assert_never(term)

    def _column(self, field: Field) -> Column | None:
        """None where no item has the field."""
        column = self._columns.get(field)
        if column is None and (field == ItemField("id") or not self._complete):
            raise _NotHeldError
        return column

    def _admit(self, fields: Collection[Field]) -> None:
        """Make columns for fields that occur for the first time, until there was no room for one.

        From then on a field without a column may have occurred before.
        """
        if not self._complete:
            return
        size = Column().nbytes + 4 * len(self)
        free = min(_MAX_FIELDS - len(self._columns), (self._memory_bytes - self.nbytes) // size)
        for number, field in enumerate(fields):
            if number < free:
                self._columns[field] = Column()
            else:
                self._note_incomplete(field)

    def _limit_memory(self) -> None:
        while self._columns and self.nbytes > self._memory_bytes:
            self._give_up(max(self._columns, key=lambda field: self._columns[field].nbytes))

    def _give_up(self, field: Field) -> None:
        del self._columns[field]
        self._note_incomplete(field)

    def _note_incomplete(self, field: Field) -> None:
        if self._complete:
            _log.warning(
                "filters on the field %s, and on those that occur later, ask the database and take longer: fields "
                "in memory may take %d MiB (SFSC_FILTER_MEMORY_BYTES), and be at most %d",
                ".".join(field.path) if isinstance(field, MetadataField) else f"${field.name}",
                self._memory_bytes >> 20,
                _MAX_FIELDS,
            )
        self._complete = False


def _judged(column: Column, term: Equals | Compares | Exists | Contains) -> Mask:
    match term:
        case Equals():
            return column.equals(term.values)
        case Compares():
            return column.compares(term.comparison, term.bound)
        case Exists():
            return column.exists()
        case Contains():
            return column.contains(term.value)
        case _:
            assert_never(term)
