"""peftbench measures what fine-tuning methods really cost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from peftbench.api import apply_method
    from peftbench.errors import UnsupportedError, UserError
    from peftbench.measure.trial import Trial
    from peftbench.methods.anatomy import Anatomy, Stack, SubBlock
    from peftbench.methods.base import Application, Method
    from peftbench.methods.basic import SelectiveMethod
    from peftbench.methods.peft.method import PeftMethod
    from peftbench.models.presets import Preset
    from peftbench.plugin.fixture import PeftCase
    from peftbench.plugin.marks import bench
    from peftbench.records.record import Metric, Record
    from peftbench.tasks.base import Head, HubSource, Task
    from peftbench.tasks.classification import ClassificationTask
    from peftbench.workloads.base import Workload
    from peftbench.workloads.subject import Subject

__all__ = [
    "Anatomy",
    "Application",
    "ClassificationTask",
    "Head",
    "HubSource",
    "Method",
    "Metric",
    "PeftCase",
    "PeftMethod",
    "Preset",
    "Record",
    "SelectiveMethod",
    "Stack",
    "SubBlock",
    "Subject",
    "Task",
    "Trial",
    "UnsupportedError",
    "UserError",
    "Workload",
    "apply_method",
    "bench",
]

_HOMES: Final = {
    "peftbench.api": ("apply_method",),
    "peftbench.errors": ("UnsupportedError", "UserError"),
    "peftbench.methods.anatomy": ("Anatomy", "Stack", "SubBlock"),
    "peftbench.plugin.fixture": ("PeftCase",),
    "peftbench.plugin.marks": ("bench",),
    "peftbench.methods.base": ("Application", "Method"),
    "peftbench.methods.basic": ("SelectiveMethod",),
    "peftbench.methods.peft.method": ("PeftMethod",),
    "peftbench.models.presets": ("Preset",),
    "peftbench.records.record": ("Metric", "Record"),
    "peftbench.tasks.base": ("Head", "HubSource", "Task"),
    "peftbench.tasks.classification": ("ClassificationTask",),
    "peftbench.measure.trial": ("Trial",),
    "peftbench.workloads.base": ("Workload",),
    "peftbench.workloads.subject": ("Subject",),
}
"""Where the public names live: imported when first asked for, since every pytest run imports this package."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
