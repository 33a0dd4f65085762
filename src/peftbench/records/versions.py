"""Versions of file formats. An older file is converted in memory; a newer one is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from peftbench.errors import UserError

Migration = Callable[[dict[str, Any]], dict[str, Any]]


def bring_up_to_date(data: object, schema: str, migrations: Mapping[int, Migration], source: str) -> dict[str, Any]:
    """Return the content of a file in the form of `schema`, without its "schema" entry.

    Args:
        data: The parsed file, `{"schema": "peftbench/run/1", ...}`.
        schema: Kind and version that this release reads and writes.
        migrations: Version -> the function that converts to the next version.
        source: Name of the file in errors.

    Raises:
        UserError: the data have another kind or a newer version.
    """
    kind, _, current = schema.rpartition("/")
    found = data.get("schema") if isinstance(data, Mapping) else None
    prefix, _, version = str(found).rpartition("/")
    known = {str(number): number for number in (*migrations, int(current))}
    if not isinstance(data, Mapping) or prefix != kind or not (version.isascii() and version.isdigit()):
        problem = "it has no schema" if found is None else f"its schema is {str(found)[:60]!r}"
        raise UserError(f"{source}: is no {kind} file: {problem}; is it the right file?")
    if version not in known:
        raise UserError(
            f"{source}: its schema is {str(found)[:60]!r}, and this release reads {schema}; upgrade peftbench"
        )
    content = {name: value for name, value in data.items() if name != "schema"}
    for number in range(known[version], int(current)):
        content = migrations[number](content)
    return content
