"""Writes each plot as a figure for a paper: SVG, PNG, and the drawn data as CSV, under stable names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from peftbench.errors import UserError
from peftbench.pages.content import PageContent
from peftbench.pages.plots import OF_CASE, Plot, specification
from peftbench.pages.series import DATA
from peftbench.pages.theme import PAPER
from peftbench.records.fileio import write_atomically
from peftbench.text import Destination, clean_tree, on_terminal

SCALE: Final = 2.0
"""Pixels of a PNG for each unit of the chart."""
LONGEST: Final = 80
"""Most characters of a part of a file's name."""


def write_figures(content: PageContent, folder: Path) -> list[Path]:
    """Write the figures of a page into a folder, which is made if need be; return their paths.

    The charts of cases are written once for each workload, task and batch size, others once for each selection of the
    page: `time-memory-train-step-nli-8.svg`. Charts of a single case are left out: they would be two for each case.

    Raises:
        UserError: a file cannot be written.
    """
    import vl_convert

    written = []
    for name, plot, rows in figures(content.plots.values()):
        spec = specification(plot, PAPER)
        spec["datasets"] = {DATA: clean_tree(list(rows), Destination.EXPORT)}
        svg, png = vl_convert.vegalite_to_svg(spec), vl_convert.vegalite_to_png(spec, scale=SCALE)
        paths = [folder / f"{name}.{ending}" for ending in ("svg", "png", "csv")]
        write_atomically(paths[0], svg)
        write_atomically(paths[1], png)
        write_atomically(paths[2], table(rows))
        written += paths
    return written


def figures(plots: Iterable[Plot]) -> Iterator[tuple[str, Plot, Sequence[Mapping[str, Any]]]]:
    """Yield the name, the plot and the rows of each figure.

    Raises:
        UserError: two selections have the same name, since they differ in characters that no file name has.
    """
    taken: set[str] = set()
    for plot in plots:
        if plot.keys == OF_CASE:
            continue
        varied = [key for key in plot.keys if len({row[key] for row in plot.rows}) > 1]
        parts: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for row in plot.rows:
            parts.setdefault(tuple(str(row[key]) for key in varied), []).append(row)
        for values, rows in parts.items():
            name = "-".join(filter(None, [plot.name, *map(_word, values)]))
            if name in taken:
                raise UserError(f"two figures would be called {name}: give fewer files at once")
            taken.add(name)
            yield name, plot, rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV. Texts are clean, and none begins like a formula."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return file.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = on_terminal(value)
    return f"'{text}" if re.match(r"[=@]|[+-](?!\d)", text) else text


def _word(text: str) -> str:
    """Return a text as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST]
