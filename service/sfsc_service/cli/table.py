"""Tables whose names stay whole, so that an id can be copied, or read by a program."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from sfsc_service.cli.shown import escaped

__all__ = ["print_table"]

_LEAST = 12
"""Characters that a line of the last column has where that is no terminal, and the names leave so many."""
_SHARE = 0.4
"""Of a terminal's width: what the last column has, if it needs it, before names fold."""
_LINES = 3
"""Of one cell of the last column in a terminal; what is longer ends in …"""


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, names: str = "id", title: str | None = None
) -> None:
    """Print a table; the last column folds first. Characters that are not printable are escaped.

    Where the output is no terminal, nothing else folds and nothing is cut: lines become as long as the names want.
    In a terminal, the last column is cut after three lines; in one that is too narrow, it has its share and the
    names fold, too.

    Args:
        names: the column of the names.
    """
    rows = [[escaped(cell) for cell in row] for row in rows]
    console = Console()
    longest = {cells[0]: max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)}
    widest = longest.pop(columns[-1])
    last = min(widest, max(_LEAST, int(_SHARE * console.width)) if console.is_terminal else _LEAST)
    edges = sum(longest.values()) - longest[names] + 3 * len(columns) + 1
    if not console.is_terminal:
        console.width = max(console.width, edges + last + longest[names])
    longest[names] = max(1, min(longest[names], console.width - edges - last))
    if console.is_terminal:
        room = max(1, min(widest, console.width - edges - longest[names]))
        rows = [[*row[:-1], _cut(row[-1], _LINES * room)] for row in rows]
    heads = [Column(name, width=longest.get(name), overflow="fold") for name in columns]
    table = Table(*heads, title=None if title is None else Text(escaped(title), "table.title"))
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _cut(text: str, cells: int) -> str:
    return text if cell_len(text) <= cells else f"{set_cell_size(text, cells - 1).rstrip()}…"
