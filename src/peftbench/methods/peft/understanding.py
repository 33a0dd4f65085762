"""Whether the installed PEFT understands the configuration of a folder, before it is applied to anything."""

from __future__ import annotations

import dataclasses
import difflib
from types import NoneType
from typing import TYPE_CHECKING, Final

from peftbench.errors import UnsupportedError, UserError, shown
from peftbench.methods.peft.adapter_folder import CONFIG, AdapterFolder
from peftbench.methods.peft.overrides import RESERVED, types_of
from peftbench.methods.peft.wrapping import config_class

if TYPE_CHECKING:
    from peft import PeftConfig

_NUMBERS: Final = frozenset({int, float})


def understood(folder: AdapterFolder) -> type[PeftConfig]:
    """Return the class of a folder's configuration.

    Raises:
        UserError: the installed PEFT does not know the tuner, or an entry that is set; or a number is none.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    path = folder.path / CONFIG
    try:
        kind = config_class(folder.tuner)
    except UnsupportedError:
        advice = _advice(folder, folder.tuner.upper(), [kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING])
        raise UserError(f"{path}: the installed PEFT has no tuner {folder.tuner!r}: {advice}") from None
    fields = {item.name for item in dataclasses.fields(kind)} | RESERVED | {"runtime_config"}
    for name, value in folder.config.items():
        if name not in fields and value not in (None, False, "", [], {}):
            advice = _advice(folder, name, sorted(fields - RESERVED))
            raise UserError(
                f"{path}: the installed PEFT does not know {name!r} of a {folder.tuner} configuration: {advice}"
            )
    for name, hints in types_of(kind).items():
        value = folder.config.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not number and {*hints} - {NoneType} and {*hints} - {NoneType} <= _NUMBERS:
            raise UserError(f"{path}: {name} must be a number, not {shown(value)}")
    return kind


def _advice(folder: AdapterFolder, name: str, known: list[str]) -> str:
    """Return which PEFT saved the folder, and what to do."""
    import peft

    saved, here = folder.config.get("peft_version"), peft.__version__
    by = f"PEFT {saved} saved it" if saved else "a later PEFT may have saved it"
    near = difflib.get_close_matches(name[:120], known, n=1)
    hint = f"is {near[0]!r} meant?" if near else "install the PEFT that saved it, or correct the file"
    return f"{by}, {here} is installed: {hint}"
