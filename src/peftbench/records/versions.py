"""Versions of file formats: what is older is brought up to date in memory, what is newer is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from peftbench.errors import UserError

Migration = Callable[[dict[str, Any]], dict[str, Any]]


def bring_up_to_date(data: object, schema: str, migrations: Mapping[int, Migration], source: str) -> dict[str, Any]:
    """Return the content of a file of ours in the form of `schema`, without its "schema" entry.

    Args:
        data: The parsed file, `{"schema": "peftbench/run/1", ...}`.
        schema: What this release reads and writes: a kind and a version.
        migrations: Version -> the step from its form to the next one's.
        source: The file, for errors.

    Raises:
        UserError: the data are of another kind, or of a newer version.
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
