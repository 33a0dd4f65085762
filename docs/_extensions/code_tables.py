"""Tables that the code holds already: a page names one in a comment, and the site shows it.

`<!-- table: options -->` becomes the table of `options_table`, `<!-- table: rules -->` that of `rules_table`. So each
option is described once, where it is defined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from peftbench.config.settings import flag_name, options
from peftbench.gate.rule import Rule

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def options_table() -> str:
    """Return all options but the constants of the gate's rule, as a Markdown table."""
    constants = {f"gate_{item.name}" for item in fields(Rule)}
    rows = [
        (f"`{flag_name(name)}{'' if option.flag else f'={option.metavar}'}`", option.help)
        for name, option in options().items()
        if name not in constants
    ]
    return _table(("option", "what it does"), rows)


def rules_table() -> str:
    """Return the constants of the gate's rule, as a Markdown table."""
    rows = [(f"`{item.name.replace('_', '-')}`", f"{item.default:g}", item.metadata["help"]) for item in fields(Rule)]
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
