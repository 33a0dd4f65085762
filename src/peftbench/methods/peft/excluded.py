"""What PEFT has and cannot be measured here: known by name, so that a table of all methods has a row and the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from peftbench.errors import UnsupportedError
from peftbench.methods.base import Application, Method
from peftbench.methods.peft import EXCLUDED, EXCLUDED_VARIANTS

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel

    from peftbench.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class ExcludedMethod(Method):
    """A method that no task of ours can use."""

    reason: str

    def unsupported(self, task: Task, *, architecture: str) -> str:
        """Return the reason, whatever the task."""
        del task, architecture
        return self.reason

    def apply(self, model: PreTrainedModel, application: Application) -> torch.nn.Module:
        """Raise UnsupportedError with the reason."""
        del model, application
        raise UnsupportedError(f"{self.name}: {self.reason}")

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Raise UnsupportedError with the reason."""
        del model, folder
        raise UnsupportedError(f"{self.name}: {self.reason}")

    def load(self, model: PreTrainedModel, application: Application, folder: Path) -> torch.nn.Module:
        """Raise UnsupportedError with the reason."""
        del folder
        return self.apply(model, application)


METHODS: Final = tuple(
    ExcludedMethod(
        name=name.lower().replace("_", "-"),
        family="peft",
        summary="not measured here",
        source=f"peft.PeftType.{name}" if name in EXCLUDED else f"a variant of peft.LoraConfig: {name}",
        reason=reason,
    )
    for name, reason in (*EXCLUDED.items(), *EXCLUDED_VARIANTS.items())
)
