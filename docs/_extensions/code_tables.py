"""Tables that the code holds already: a page names one in a comment, and the site shows it.

`<!-- table: options -->` becomes what `options_table` returns, `<!-- table: rules -->` what `rules_table` does. So
each option is described once, where it is defined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Any

from peftbench.config.settings import flag_name, options
from peftbench.gate.rule import Rule

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def options_table() -> str:
    """Return all options but the constants of the gate's rule: a Markdown table for each group of `pytest --help`."""
    constants = {f"gate_{item.name}" for item in fields(Rule)}
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, option in options().items():
        if name not in constants:
            spelled = f"`{flag_name(name)}{'' if option.flag else f'={option.metavar}'}`"
            groups.setdefault(getattr(option, "group", ""), []).append((spelled, option.help))
    return "\n".join(
        (f"### {group[0].upper()}{group[1:]}\n\n" if group else "") + _table(("option", "what it does"), groups[group])
        for group in sorted(groups, key=_place)
    )


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


def _place(group: str) -> int:
    """Return where `pytest --help` has a group: in the order in which its enumeration lists them."""
    return list(type(group)).index(group) if isinstance(group, Enum) else 0


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
