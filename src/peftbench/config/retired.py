"""Errors for names that are no setting. A name of an earlier version is refused with the name of its replacement."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import takewhile
from types import MappingProxyType
from typing import Final

from peftbench.config.options import flag_name
from peftbench.config.settings import options
from peftbench.errors import UserError, unknown

_CONSTANTS: Final = (
    *("limit", "tolerance", "alpha", "alpha_young", "confidence", "power", "suspect_p", "futility", "launches"),
    *("more_launches", "launches_alone", "siblings", "full_baseline", "min_baseline", "session_launches", "min_cases"),
    *("prior_spread", "prior_launches", "max_shift", "max_reference_shift", "max_clock_difference"),
    "interpreter_tolerance",
)
"""Constants of the gate's rule that had an option each, up to version 0.4.0."""
RETIRED: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        **{f"gate_{name}": ("gate_rule", f"{name.replace('_', '-')}=VALUE") for name in _CONSTANTS},
        "compile": ("execution", "compile"),
    }
)
"""Setting of an earlier version -> the setting that replaced it, and how its value is written."""


class KeepSpelling(argparse.Action):
    """Keeps how a retired option is spelled, so that it can be refused when all options are read."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Keep the spelling."""
        del parser, values
        setattr(namespace, self.dest, option_string)


def spellings(prefix: str, *, of: str = "") -> list[str]:
    """Return how retired options are written on a command line, such as `--gate-limit` for the prefix `--`.

    Args:
        prefix: What stands before the name of an option there.
        of: The setting that replaced them; empty for those of all settings.
    """
    return [prefix + name.replace("_", "-") for name, (field, _) in RETIRED.items() if of in ("", field)]


def refuse_retired(names: Iterable[str], spell: Callable[[str], str] = flag_name) -> None:
    """Raise UserError for a setting of an earlier version.

    Args:
        names: Fields of settings, or other names.
        spell: Returns how a field is written where it was given; by default, on the command line.
    """
    for name in names:
        if name in RETIRED:
            field, value = RETIRED[name]
            raise UserError(f"{spell(name)} is gone: write {spell(field)} {value}")


def refuse_spelled(spelled: str, prefix: str) -> None:
    """Raise UserError for a retired option as `KeepSpelling` kept it.

    Args:
        spelled: Such as `--gate-limit`.
        prefix: What stands before the name of an option there, such as `--`.
    """
    name = spelled.removeprefix(prefix).replace("-", "_")
    refuse_retired([name], lambda field: prefix + field.replace("_", "-"))


def refuse_misspelled(words: Iterable[str], hidden: Collection[str] = ()) -> None:
    """Raise UserError for an option of a command line that has our prefix and does not exist.

    Args:
        words: The words of the command line.
        hidden: Options that exist besides those of settings, and are not suggested.
    """
    prefix = flag_name("")
    known = [flag_name(name) for name in options()]
    for word in takewhile(lambda word: word != "--", words):
        name = word.partition("=")[0]
        if name.startswith(prefix) and name not in (*known, *hidden, *spellings(prefix)):
            raise unknown("option", name, known)


def refuse_unknown(table: Mapping[str, object]) -> None:
    """Raise UserError for a key of `[tool.peftbench]` that is no option."""
    refuse_retired((key.replace("-", "_") for key in table), lambda name: name.replace("_", "-"))
    known = {name.replace("_", "-") for name in options()}
    for key in table:
        if key.replace("_", "-") not in known:
            raise unknown("key in [tool.peftbench]:", key, known)
