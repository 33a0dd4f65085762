"""Options that stand in files: pytest's own, in any of its formats, and `[tool.peftbench]` of pyproject.toml."""

from __future__ import annotations

import re
import tomllib
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
"""What the names of options begin with in pytest's files; dashes may stand for underscores there."""


_KEY: Final = re.compile(rf'^[ \t]*"?{PREFIX[:-1]}[-_]([\w-]+)"?[ \t]*=', re.MULTILINE)
"""A line that sets one of our options, in each format of pytest's files."""


def pytest_values(config: pytest.Config) -> dict[str, object]:
    """Return what pytest's file says of each option, None of those that it does not name.

    pytest takes text alone for an option of text where a file has types (`[tool.pytest]`, pytest.toml); ours are read
    from text, and so a number, a boolean or a list there is taken as it stands.

    Raises:
        UserError: the file cannot be read, or sets an option of an earlier version.
    """
    refuse_retired(_set_in(config.inipath), (PREFIX + "{}").format)
    return {name: _pytest_value(config, PREFIX + name) for name in options()}


def _set_in(path: Path | None) -> list[str]:
    """Return the names of options that a file of pytest sets, known or not."""
    if path is None:
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    return [name.replace("-", "_") for name in _KEY.findall(text)]


def _pytest_value(config: pytest.Config, name: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a list in [tool.pytest.ini_options], which is welcome
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
    """Return `[tool.peftbench]` of a folder's pyproject.toml, keys as fields are named.

    Raises:
        UserError: the file cannot be read, this is no table, or a key is no option.
    """
    path = root / "pyproject.toml"
    table = _table(_document(path), path, "tool", "peftbench") if path.is_file() else {}
    refuse_unknown(table)
    return {key.replace("-", "_"): value for key, value in table.items()}


def _document(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no TOML that can be read: {error}") from None


def _table(document: Mapping[str, object], path: Path, *keys: str) -> Mapping[str, object]:
    """Return the table that keys lead to, an empty one where there is none."""
    found: object = document
    for number, key in enumerate(keys):
        found = found.get(key, {}) if isinstance(found, Mapping) else found
        if not isinstance(found, Mapping):
            name = ".".join(keys[: number + 1])
            raise UserError(f"{path}: [{name}] must be a table of options, not {shown(found)}")
    return found if isinstance(found, Mapping) else {}
