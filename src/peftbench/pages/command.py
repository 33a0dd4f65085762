"""The command that measures a case again."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from peftbench.config.options import flag_name
from peftbench.config.settings import Settings, options
from peftbench.records.ids import CaseId
from peftbench.records.record import Record, Run

MEASURED: Final = {"seed": "seed", "lr": "learning_rates", "n": "serve"}
"""Entry of a variant -> setting that asks for it."""


def command(record: Record, run: Run) -> str:
    """Return the command that measures a record again, to be typed where the benchmark functions are.

    Settings are named where they differ from their defaults. The number of rounds is named if it was given.
    """
    asked: dict[str, object] = {
        "workloads": record.workload,
        "methods": record.method,
        "tasks": record.task,
        "batch_sizes": record.batch_size,
        **{name: value for name, value in run.settings.items() if _differs(name, value)},
        **{MEASURED[name]: value for name, value in record.variant.items() if name in MEASURED},
    }
    if "seed" in record.variant:
        asked["seeds"] = 1
    if record.stop == "rounds" and record.launches:
        asked["rounds"] = record.launches[0].rounds
    words = [_option(name, value) for name, value in asked.items()]
    function = CaseId(record.id).function
    chosen = [] if function == record.workload else ["-k", function]
    return shlex.join(["pytest", "benches/", "--benchmark-only", *words, *chosen])


def _differs(name: str, value: object) -> bool:
    """Tell whether a setting of a run must be named. Settings of another version are left out."""
    defaults = _defaults()
    if name not in defaults or value in (None, ""):
        return False
    default = defaults[name]
    return value != (list(default) if isinstance(default, tuple) else default)


@cache
def _defaults() -> Mapping[str, Any]:
    known = options()
    return MappingProxyType({item.name: item.default for item in dataclasses.fields(Settings) if item.name in known})


def _option(name: str, value: object) -> str:
    if value is True:
        return flag_name(name)
    return f"{flag_name(name)}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"
