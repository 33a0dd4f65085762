"""Tables that the code holds already: a page names one in a comment, and the site shows it.

`<!-- table: options -->` becomes what `options_table` returns, `<!-- table: rules -->` what `rules_table` does. So
each option is described once, where it is defined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from peftbench.config.options import Question, flag_name
from peftbench.config.settings import options
from peftbench.gate.constants import Rule

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def options_table() -> str:
    """Return all options: a Markdown table for each question that options answer, as in `pytest --help`."""
    sections = []
    for question in Question:
        rows = [
            (f"`{flag_name(name)}{'' if option.flag else f'={option.metavar}'}`", option.help)
            for name, option in options().items()
            if option.question is question
        ]
        sections.append(f"### {question[0].upper()}{question[1:]}\n\n{_table(('option', 'what it does'), rows)}")
    return "\n".join(sections)


def rules_table() -> str:
    """Return the constants of the gate's rule, as a Markdown table."""
    rows = [(f"`{one.name}`", f"{one.default:g}", one.help) for one in Rule.constants()]
    return _table(("name", "default", "meaning"), rows)


def insert_tables(app: Sphinx, name: str, source: list[str]) -> None:  # noqa: ARG001 - Sphinx calls with these
    """Put the tables in the place of the comments that name them."""
    for key, table in (("options", options_table), ("rules", rules_table)):
        comment = f"<!-- table: {key} -->"
        if comment in source[0]:
            source[0] = source[0].replace(comment, table())


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", insert_tables)
    return {"parallel_read_safe": True}


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = tuple(titles)
    lines = [titles, ("---",) * len(titles), *(map(_cell, row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    """Return a text as Markdown shows it letter by letter; code between backticks stays as it is."""
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\<>*_|\[\]])", r"\\\1", part)
        for part in re.split(r"(`[^`]*`)", text)
    )
