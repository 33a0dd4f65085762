"""Draws all tables. A column has a rank, by which it is left out on a narrow terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from peftbench.text import on_terminal

if TYPE_CHECKING:
    from rich.table import Table

GAP: Final = 2
"""Blanks between two columns."""
LINED_GAP: Final = 3
"""Blanks between two columns of a table with a line below the titles."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    cell: Callable[[Any], str]
    """Returns the text of the cell in a row."""
    rank: int = 0
    """Columns of the highest rank are left out first on a narrow terminal. Columns of rank 0 always stay."""
    text: bool = False
    """Whether the column holds words and is aligned to the left. Numbers are aligned to the right."""
    folds: bool = False
    """Whether a cell may be broken into lines."""
    ratio: int | None = None
    """Share of the width that folding columns divide among themselves."""

    @classmethod
    def of(cls, title: str, cells: Sequence[str], rank: int = 0, *, text: bool = False) -> Column:
        """Return a column of given cells. Rows are numbers from 0."""
        return cls(title, cells.__getitem__, rank, text=text, folds=True)

    def width(self, rows: Iterable[Any]) -> int:
        """Return the width of the widest line in characters."""
        return max(map(len, (self.title, *(on_terminal(self.cell(row)) for row in rows))))


def filled(columns: Sequence[Column], rows: Sequence[Any]) -> list[Column]:
    """Return the columns that are not empty."""
    return [column for column in columns if any(map(column.cell, rows))]


def fitting(columns: Sequence[Column], blocks: Sequence[Sequence[Any]], width: int, gap: int = GAP) -> list[Column]:
    """Return the columns that fit in the width, for several tables with the same columns.

    Args:
        columns: All columns.
        blocks: The rows of each table.
        width: Characters of the terminal.
        gap: Blanks between two columns.
    """
    kept = list(columns)
    widths = {column: max((column.width(rows) for rows in blocks), default=0) for column in columns}
    for rank in sorted({column.rank for column in columns if column.rank}, reverse=True):
        if sum(widths[column] + gap for column in kept) - gap <= width:
            break
        kept = [column for column in kept if column.rank < rank]
    return kept


def drawn(
    columns: Sequence[Column],
    rows: Iterable[Any],
    *,
    lined: bool = True,
    bold: bool = False,
    style: Callable[[Any], str] = lambda _: "",
) -> Table:
    """Return a table for a page.

    Args:
        columns: From left to right.
        rows: From top to bottom.
        lined: Whether a line stands below the titles.
        bold: Whether the titles are bold.
        style: The style of a row, as rich names it.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    padding = (0, 1) if lined else (0, GAP, 0, 0)
    box = SIMPLE_HEAD if lined else None
    table = Table(
        box=box, pad_edge=False, padding=padding, show_edge=False, header_style="bold" if bold else "table.header"
    )
    for column in columns:
        table.add_column(
            column.title,
            justify="left" if column.text else "right",
            no_wrap=not column.folds,
            overflow="fold" if column.folds else "ellipsis",
            ratio=column.ratio,
        )
    for row in rows:
        table.add_row(*(on_terminal(column.cell(row)) for column in columns), style=style(row))
    return table
