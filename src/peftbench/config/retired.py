"""Errors for names that are no setting. A name of an earlier version is refused with the name of its replacement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from peftbench.config.options import flag_name
from peftbench.config.settings import options
from peftbench.errors import UserError, unknown
from peftbench.gate.constants import Rule

RETIRED: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {f"gate_{constant.field}": ("gate_rule", f"{constant.name}={constant.default}") for constant in Rule.constants()}
)
"""Setting of an earlier version -> the setting that replaced it, and an example of its value."""


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


def refuse_unknown(table: Mapping[str, object]) -> None:
    """Raise UserError for a key of `[tool.peftbench]` that is no option."""
    refuse_retired((key.replace("-", "_") for key in table), lambda name: name.replace("_", "-"))
    known = {name.replace("_", "-") for name in options()}
    for key in table:
        if key.replace("_", "-") not in known:
            raise unknown("key in [tool.peftbench]:", key, known)
