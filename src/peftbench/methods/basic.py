"""The methods that add nothing to the model: full fine-tuning, the head alone, the biases alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.base import Application, Method, head_names, is_head
from peftbench.tasks.base import Head

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from peftbench.records.ids import Scalar
    from peftbench.tasks.base import Task

WEIGHTS_FILE: Final = "model.safetensors"
"""What `save` writes: the trained parameters under their own names."""


@dataclass(frozen=True, kw_only=True)
class SelectiveMethod(Method):
    """Trains the head and those of the backbone's own parameters that are picked by name; freezes the others."""

    unmergeable: str = "it trains the model's own weights"
    picks: Callable[[str], bool] | None = None
    """Tells, by its name, whether a parameter of the backbone is trained; None: the backbone is frozen."""

    def unsupported(self, task: Task, *, architecture: str) -> str:
        """Return the reason why nothing would be trained, or ''."""
        del architecture
        if self.picks or task.head is not Head.CAUSAL_LM:
            return ""
        return f"task {task.name} has no head of its own: its language-model head is part of the backbone"

    def check(self, overrides: Mapping[str, Scalar]) -> None:
        """Raise UserError where an override was given; there is nothing to configure."""
        if overrides:
            raise UserError(f"{self.name} has nothing to configure, but was given {', '.join(overrides)}")

    def apply(self, model: PreTrainedModel, application: Application) -> torch.nn.Module:
        """Return the same model, with `requires_grad` set.

        Raises:
            UnsupportedError: the backbone has no parameter of the kind that the method trains.
            UserError: an override was given; there is nothing to configure.
        """
        self.check(application.overrides)
        heads = head_names(model)
        backbone = {name: p for name, p in model.named_parameters() if not is_head(name, heads)}
        picked = {name for name in backbone if self.picks and self.picks(name)}
        if self.picks and not picked:
            raise UnsupportedError(f"{self.name}: the backbone of {model.config.model_type} has nothing that it trains")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in picked or name not in backbone)
        return cast("torch.nn.Module", model)

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Write the trained parameters into `model.safetensors`."""
        from safetensors.torch import save_file

        trained = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
        save_file(trained, folder / WEIGHTS_FILE, metadata={"format": "pt"})

    def load(self, model: PreTrainedModel, application: Application, folder: Path) -> torch.nn.Module:
        """Return a fresh model with the weights that `save` wrote.

        Raises:
            UserError: the file holds other parameters than those that the method trains in this model.
        """
        from safetensors.torch import load_file

        applied = self.apply(model, application)
        weights = load_file(folder / WEIGHTS_FILE)
        expected = {name for name, parameter in applied.named_parameters() if parameter.requires_grad}
        if different := sorted(expected ^ weights.keys()):
            raise UserError(
                f"{folder / WEIGHTS_FILE} was not saved by {self.name} from such a model: "
                f"{len(different)} parameters differ, the first is {different[0]}"
            )
        applied.load_state_dict(weights, strict=False)
        return applied

    def remove(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the same model: nothing was added."""
        return model


def _all(name: str) -> bool:
    del name
    return True


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2].endswith("bias")


METHODS: Final = (
    SelectiveMethod(
        name="full",
        family="basic paper",
        summary="every weight is trained",
        source="plain fine-tuning",
        picks=_all,
    ),
    SelectiveMethod(
        name="head",
        family="basic",
        summary="the backbone is frozen, the task head is trained",
        source="linear probing",
    ),
    SelectiveMethod(
        name="bitfit",
        family="basic",
        summary="the biases and the task head are trained",
        source="BitFit, arXiv 2106.10199",
        picks=_is_bias,
    ),
)
