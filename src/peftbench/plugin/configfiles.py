"""Reads options from files: pytest's configuration file in each format, and `[tool.peftbench]` of pyproject.toml."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import pytest

from peftbench.config.retired import refuse_retired, refuse_unknown
from peftbench.config.settings import options
from peftbench.errors import UserError, shown

if TYPE_CHECKING:
    from pathlib import Path

PREFIX: Final = "peftbench_"
"""Prefix of the names of options in pytest's file. Dashes may replace underscores there."""


_KEY: Final = re.compile(rf'^[ \t]*"?{PREFIX[:-1]}[-_]([\w-]+)"?[ \t]*=', re.MULTILINE)
"""A line that sets an option of peftbench, in each format of pytest's file."""


def pytest_values(config: pytest.Config) -> dict[str, object]:
    """Return the value of each option in pytest's file; None for options that it does not name.

    In files with types (`[tool.pytest]`, pytest.toml) pytest accepts only text for options of text. Numbers, booleans
    and lists are accepted here as well.

    Raises:
        UserError: the file cannot be read, or sets an option of an earlier version.
    """
    refuse_retired(_set_in(config.inipath), (PREFIX + "{}").format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pytest warns of lists, which are allowed here
        return {name: _pytest_value(config, PREFIX + name) for name in options()}


def _set_in(path: Path | None) -> list[str]:
    """Return the names of our options that pytest's file sets, including unknown names."""
    if path is None:
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    return [name.replace("-", "_") for name in _KEY.findall(text)]


def _pytest_value(config: pytest.Config, name: str) -> object:
    try:
        return config.getini(name)
    except (TypeError, pytest.UsageError):
        return _typed(config, name)


def _typed(config: pytest.Config, name: str) -> object:
    """Return the value of an option in pytest's TOML file."""
    path = config.inipath
    if path is None:
        return None
    document = _document(path)
    table = _table(document, path, "pytest") or _table(document, path, "tool", "pytest")
    return next((table[key] for key in (name, name.replace("_", "-")) if key in table), None)


def own_table(root: Path) -> dict[str, object]:
    """Return `[tool.peftbench]` of a folder's pyproject.toml: field of `Settings` -> value.

    Raises:
        UserError: the file cannot be read, `[tool.peftbench]` is no table, or a key is no option.
    """
    path = root / "pyproject.toml"
    table = _table(_document(path), path, "tool", "peftbench") if path.is_file() else {}
    refuse_unknown(table)
    return {key.replace("-", "_"): value for key, value in table.items()}


def _document(path: Path) -> Mapping[str, object]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no TOML that can be read: {error}") from None


def _table(document: Mapping[str, object], path: Path, *keys: str) -> Mapping[str, object]:
    """Return the table at a path of keys; an empty one if there is none."""
    found: object = document
    for number, key in enumerate(keys):
        found = found.get(key, {}) if isinstance(found, Mapping) else found
        if not isinstance(found, Mapping):
            name = ".".join(keys[: number + 1])
            raise UserError(f"{path}: [{name}] must be a table of options, not {shown(found)}")
    return found if isinstance(found, Mapping) else {}
