"""Tables whose names stay whole, so that an id can be copied, or read by a program."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from sfsc_service.cli.shown import escaped

__all__ = ["print_table"]

_LEAST = 12
"""Characters that a line of the last column has, where the names leave so many."""


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, names: str = "id", title: str | None = None
) -> None:
    """Print a table; the last column folds first. Characters that are not printable are escaped.

    Where the output is no terminal, nothing else folds: lines become as long as the names want. In a terminal that
    is too narrow, the names fold, too.

    Args:
        names: the column of the names.
    """
    rows = [[escaped(cell) for cell in row] for row in rows]
    console = Console()
    longest = {cells[0]: max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)}
    last = min(longest.pop(columns[-1]), _LEAST)
    others = sum(longest.values()) - longest[names] + last + 3 * len(columns) + 1
    if not console.is_terminal:
        console.width = max(console.width, others + longest[names])
    longest[names] = max(1, min(longest[names], console.width - others))
    heads = [Column(name, width=longest.get(name), overflow="fold") for name in columns]
    table = Table(*heads, title=None if title is None else Text(escaped(title), "table.title"))
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
