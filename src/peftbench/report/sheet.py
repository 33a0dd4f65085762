"""A sheet is the content of a file as rows. It is rendered as table, markdown, JSON or CSV, or as lines for git."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from peftbench.report.page import page, written
from peftbench.report.table import GAP, Column, drawn, filled, fitting
from peftbench.text import as_json, in_markdown, on_terminal

Row = Mapping[str, Any]
"""Name -> value: text, a number or None. Mappings and lists are left out of CSV."""
FORMATS: Final = ("table", "markdown", "json", "csv")


@dataclass(frozen=True, slots=True)
class Sheet:
    """The content of one file."""

    schema: str
    """Schema of the file."""
    about: Mapping[str, Any]
    """Entries that hold for all rows: text, numbers, or mappings of these."""
    rows: Sequence[Row]
    """Rows for programs. Each row has the entries that `keys` names."""
    columns: Sequence[Column]
    """Columns for people. Empty columns are left out."""
    notes: Sequence[str] = ()
    """Sentences that follow the table."""
    keys: Sequence[str] = ("case",)
    """Names of the entries that identify a row."""
    people: Sequence[Row] | None = None
    """Rows for people; None if they are `rows`."""
    appendix: Callable[[int], str] = lambda _: ""
    """Width of a terminal -> text of further tables."""
    summary: Mapping[str, Any] | None = None
    """What follows from all rows together, for the JSON form."""

    @property
    def table(self) -> Sequence[Row]:
        """Rows for people."""
        return self.rows if self.people is None else self.people


def render(sheet: Sheet, format_: str, *, width: int) -> str:
    """Return a sheet in one of FORMATS. `width` is that of the terminal, for a table."""
    if format_ == "json":
        data = {"schema": sheet.schema, "about": sheet.about, "rows": list(sheet.rows)}
        if sheet.summary is not None:
            data["answer"] = sheet.summary
        return as_json(json.loads(json.dumps(data, allow_nan=False, default=list)))
    if format_ == "csv":
        return _csv(sheet)
    return _markdown(sheet) if format_ == "markdown" else _table(sheet, width)


def lines(sheet: Sheet) -> Iterator[str]:
    """Yield the whole sheet for a diff. Each number is on a line that names its row and entry."""
    for name, value in sheet.about.items():
        yield from map(on_terminal, _numbered(name, value))
    for row in sheet.rows:
        which = "  ".join(str(row[key]) for key in sheet.keys)
        for name, value in row.items():
            if name not in sheet.keys:
                yield from map(on_terminal, _numbered(f"{which}  {name}", value))


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
    """Return a value as text for a diff. Digits are grouped in threes, since a count may have twelve."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return " ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _csv(sheet: Sheet) -> str:
    names = dict.fromkeys(name for row in sheet.rows for name, value in row.items() if _scalar(value))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(on_terminal, names))
    writer.writerows([_cleaned(row.get(name)) for name in names] for row in sheet.rows)
    return file.getvalue()


def _cleaned(value: object) -> object:
    return on_terminal(value) if isinstance(value, str) else value


def _scalar(value: object) -> bool:
    return not isinstance(value, Mapping | list | tuple)


def _markdown(sheet: Sheet) -> str:
    columns = filled(sheet.columns, sheet.table)
    text = [f"* {in_markdown(line)}\n" for line in _head(sheet)]
    if sheet.table:
        text += ["\n", _pipes([column.title for column in columns])]
        text.append(_pipes(["---" if column.text else "---:" for column in columns]))
        text += [_pipes([in_markdown(column.cell(row)) for column in columns]) for row in sheet.table]
    text += ["\n" if sheet.notes else "", *(f"* {in_markdown(note)}\n" for note in sheet.notes)]
    return "".join(text)


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _table(sheet: Sheet, width: int) -> str:
    console = page(width=width)
    for line in _head(sheet):
        console.print(on_terminal(line))
    columns = fitting(filled(sheet.columns, sheet.table), [sheet.table], width)
    if columns:
        console.print()
        plain = _plainly(columns, sheet.table, width)
        console.print(plain or drawn(columns, sheet.table, lined=False), end="" if plain else "\n")
    for note in sheet.notes:
        console.print(on_terminal(note))
    return written(console) + sheet.appendix(width)


def _plainly(columns: Sequence[Column], rows: Sequence[Row], width: int) -> str:
    """Return the lines of a table that fits without folding, else ''. This is fast for very many rows."""
    cells = [(column.title, *(on_terminal(column.cell(row)) for row in rows)) for column in columns]
    widths = [max(map(len, column)) for column in cells]
    if sum(widths) + GAP * (len(columns) - 1) > width:
        return ""
    sides = [str.ljust if column.text else str.rjust for column in columns]
    lines = zip(*cells, strict=True)
    return "".join(
        (" " * GAP).join(side(cell, size) for side, cell, size in zip(sides, line, widths, strict=True)) + "\n"
        for line in lines
    )


def _head(sheet: Sheet) -> Iterator[str]:
    """Yield a line for each entry that holds for all rows."""
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
