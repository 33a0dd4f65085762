"""A sheet: what one file holds, as rows; for people a table or markdown, for programs JSON or CSV, for git lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from peftbench.text import visible

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]
"""Value by name: text, numbers, None; what is a mapping or a list is not in CSV."""
FORMATS: Final = ("table", "markdown", "json", "csv")
GAP: Final = 2
"""Blanks between two columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column for people."""

    title: str
    cell: Callable[[Row], str]
    rank: int = 0
    """Columns of the highest rank are left out first where the terminal is narrow."""
    text: bool = False
    """Whether it holds words, which stand on the left and may be broken into lines."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What one file holds."""

    schema: str
    """Of the file."""
    about: Mapping[str, Any]
    """What holds for all rows: text, numbers, or mappings of these."""
    rows: Sequence[Row]
    """Each with what `keys` names."""
    columns: Sequence[Column]
    """For people; those whose cells are all empty are left out."""
    notes: Sequence[str] = ()
    """What follows the table, a sentence each."""
    keys: Sequence[str] = ("case",)
    """Names of what tells one row from the others."""
    people: Sequence[Row] | None = None
    """The rows of the table, where they are not `rows`."""
    appendix: Callable[[int], str] = lambda _: ""
    """Further tables, for a terminal of so many columns."""

    @property
    def table(self) -> Sequence[Row]:
        """The rows for people."""
        return self.rows if self.people is None else self.people


def render(sheet: Sheet, format_: str, *, width: int) -> str:
    """Return a sheet in one of FORMATS; `width` is the terminal's, for a table."""
    if format_ == "json":
        data = {"schema": sheet.schema, "about": sheet.about, "rows": list(sheet.rows)}
        return json.dumps(data, indent=1, allow_nan=False, default=list) + "\n"
    if format_ == "csv":
        return _csv(sheet)
    return _markdown(sheet) if format_ == "markdown" else _table(sheet, width)


def lines(sheet: Sheet) -> Iterator[str]:
    """Yield the whole sheet, each number on a line that says whose and what it is: made for a diff."""
    for name, value in sheet.about.items():
        yield from map(visible, _numbered(name, value))
    for row in sheet.rows:
        which = "  ".join(str(row[key]) for key in sheet.keys)
        for name, value in row.items():
            if name not in sheet.keys:
                yield from map(visible, _numbered(f"{which}  {name}", value))


def _numbered(name: str, value: Any) -> Iterator[str]:  # noqa: ANN401 - what JSON holds
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbered(f"{name}  {key}", item)
    elif isinstance(value, list | tuple) and not all(isinstance(item, int | float) for item in value):
        for item in value:
            yield from _numbered(name, item)
    elif value is not None and value != "":
        yield f"{name}  {_plain(value)}"


def _plain(value: object) -> str:
    """Return a value as it is read in a diff: digits in threes, since a count may have twelve."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return " ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _csv(sheet: Sheet) -> str:
    names = dict.fromkeys(name for row in sheet.rows for name, value in row.items() if _scalar(value))
    file = io.StringIO()
    writer = csv.DictWriter(file, list(names), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sheet.rows)
    return file.getvalue()


def _scalar(value: object) -> bool:
    return not isinstance(value, Mapping | list | tuple)


def _markdown(sheet: Sheet) -> str:
    columns = _filled(sheet)
    text = [f"* {_escaped(line)}\n" for line in _head(sheet)]
    if sheet.table:
        text += ["\n", _pipes([column.title for column in columns])]
        text.append(_pipes(["---" if column.text else "---:" for column in columns]))
        text += [_pipes([_escaped(column.cell(row)) for column in columns]) for row in sheet.table]
    text += ["\n" if sheet.notes else "", *(f"* {_escaped(note)}\n" for note in sheet.notes)]
    return "".join(text)


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _escaped(text: str) -> str:
    text = visible(text)
    for character in "\\`*_[]|~":
        text = text.replace(character, "\\" + character)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def _table(sheet: Sheet, width: int) -> str:
    from rich.console import Console

    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=False, no_color=True, highlight=False, markup=False)
    for line in _head(sheet):
        console.print(visible(line))
    columns = [_Cells(column, [visible(column.cell(row)) for row in sheet.table]) for column in _filled(sheet)]
    if columns:
        console.print()
        _print(_fitting(columns, width), console, file)
    for note in sheet.notes:
        console.print(visible(note))
    text = file.getvalue() + sheet.appendix(width)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


@dataclass(frozen=True, slots=True)
class _Cells:
    """A column with its cells."""

    column: Column
    cells: Sequence[str]

    @property
    def width(self) -> int:
        return max(map(len, (self.column.title, *self.cells)))


def _print(columns: Sequence[_Cells], console: Console, file: io.StringIO) -> None:
    """Print columns: plainly where they fit, since there may be very many rows; else rich folds what holds words."""
    widths = [column.width for column in columns]
    if sum(widths) + GAP * (len(columns) - 1) <= console.width:
        sides = [str.ljust if column.column.text else str.rjust for column in columns]
        rows = zip(*((column.column.title, *column.cells) for column in columns), strict=True)
        for row in rows:
            cells = [side(cell, size) for side, cell, size in zip(sides, row, widths, strict=True)]
            file.write((" " * GAP).join(cells) + "\n")
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="")
    for column in columns:
        table.add_column(column.column.title, justify="left" if column.column.text else "right", overflow="fold")
    for line in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*line)
    console.print(table)


def _head(sheet: Sheet) -> Iterator[str]:
    """Yield what holds for all rows, a line a part."""
    for name, value in sheet.about.items():
        if isinstance(value, Mapping):
            words = ", ".join(f"{key} {_short(item)}" for key, item in value.items() if item not in (None, "", False))
            yield f"{name}: {words or 'none'}"
        elif isinstance(value, list | tuple):
            yield from (f"{name}: {_plain(item)}" for item in value)
        elif value not in (None, ""):
            yield f"{name}: {_plain(value)}"


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_short(item)}" for key, item in value.items())
    return _plain(value)


def _filled(sheet: Sheet) -> list[Column]:
    return [column for column in sheet.columns if any(map(column.cell, sheet.table))]


def _fitting(columns: list[_Cells], width: int) -> list[_Cells]:
    """Return as many columns as fit, those of the lowest rank first; those of rank 0 stay, and are folded."""
    widths = {id(column): column.width + GAP for column in columns}
    for rank in sorted({column.column.rank for column in columns if column.column.rank}, reverse=True):
        if sum(widths[id(column)] for column in columns) - GAP <= width:
            break
        columns = [column for column in columns if column.column.rank < rank]
    return columns
