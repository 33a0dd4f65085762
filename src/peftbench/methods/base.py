"""What a method is: a named way to fine-tune a model, applied, saved, merged and taken off again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self, cast

from peftbench.errors import UnsupportedError
from peftbench.methods.refusals import refused_by_model
from peftbench.records.ids import Scalar

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from peftbench.methods.anatomy import Anatomy
    from peftbench.methods.optimization import Optimization
    from peftbench.tasks.base import Batch, Task

WRAPPER: Final = "base_model."
"""What stands before all names in a model of PEFT."""

NO_OVERRIDES: Mapping[str, Scalar] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Application:
    """What a method is told about the place where it is applied."""

    task: Task
    overrides: Mapping[str, Scalar] = field(default_factory=lambda: NO_OVERRIDES)
    """Changes to the method's default configuration, by name."""
    seed: int = 0
    total_steps: int = 1000
    """Length of the training that the model is prepared for; AdaLoRA's schedule needs it."""
    tokens: int | None = None
    """Length of the sequences to come, padding included, where it is known."""
    positions: int | None = None
    """The longest sequence that the model takes, where it says one."""
    batches: Sequence[Batch] = ()
    """Batches of the task with their labels, on the model's device, for methods that start from data."""
    packed: bool = False
    """Whether several examples share a sequence. What stands before a sequence then stands before one of them."""


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to fine-tune a model.

    `apply` gets a fresh model with its task head, on the device on which it will run, and may change it in place.
    Afterwards exactly the parameters that the method trains, and the head's, require a gradient. Everything else
    works on the model that `apply` returned. What a method cannot do (merge, be switched off, hold two adapters, ...)
    raises UnsupportedError, which says why.
    """

    name: str
    family: str
    """`basic`, `paper` or `peft`, or several separated by spaces: what `--peftbench-methods=paper` selects.

    Empty for a method that is only measured where it is named itself.
    """
    summary: str
    source: str
    """Where the method is defined: paper and section, or class."""
    mergeable: bool = False
    unmergeable: str = ""
    """Why it cannot be merged, where that is worth saying."""
    projects: str = ""
    """Why each forward pass rounds its weights anew, so that two evaluations are equal within rounding only."""
    trains_backbone: bool = False
    """Whether weight matrices of the backbone are meant to be trained beside parameters that the method adds."""
    together: str = ""
    """The workload that trains it on all tasks together, if it is not meant to be trained on a task alone."""
    defaults: Mapping[str, Scalar] = field(default_factory=lambda: NO_OVERRIDES)
    """The default configuration that does not depend on the model, for people to read."""
    learning_rate: float | None = None
    """Of its trainings, where no learning rates are asked for; None: those of the run."""
    brings_weights: bool = False
    """Whether applying it loads weights that were trained before, and training goes on from them."""
    untrainable: str = ""
    """Why it can only infer, or ''."""

    def unsupported(self, task: Task, *, architecture: str) -> str:
        """Return why the method cannot do `task` on a model of `architecture` (`config.model_type`), or ''."""
        del task, architecture
        return ""

    def check(self, overrides: Mapping[str, Scalar]) -> None:
        """Check what can be told of overrides without a model, so that a slip is known before anything is measured.

        Raises:
            UserError: one is unknown, or of another type.
        """
        del overrides

    def remarks(self, model: PreTrainedModel, application: Application) -> tuple[str, ...]:
        """Return what a reader must know of how the method was fitted to a model, a line each.

        Args:
            model: Fresh, before the method is applied.
            application: Where it will be applied.
        """
        del model, application
        return ()

    def quantised(self, application: Application) -> bool:
        """Tell whether the method stores the backbone in fewer bits, which changes outputs from the start."""
        del application
        return False

    @property
    def identity(self) -> str:
        """Return a line that changes when the user's files from which the method is made do; '' where it is from none.

        It is among the warnings of the records of its cases.
        """
        return ""

    def with_anatomies(self, anatomies: Mapping[str, Anatomy]) -> Self:
        """Return the method for models of these anatomies, by architecture; most methods need to know none."""
        del anatomies
        return self

    @property
    def why_not_merged(self) -> str:
        """Return the reason why the method's change cannot be folded into the weights, or ''."""
        if self.mergeable:
            return ""
        reason = f": {self.unmergeable}" if self.unmergeable else " into the weights of the model"
        return f"{self.name} cannot be merged{reason}"

    @abstractmethod
    def apply(self, model: PreTrainedModel, application: Application) -> torch.nn.Module:
        """Return the model made ready to be trained by this method.

        Raises:
            UnsupportedError: the model's blocks are not understood.
            UserError: an override is unknown, or does not fit the model.
        """

    def faults(self, model: torch.nn.Module, application: Application, doing: str) -> AbstractContextManager[None]:
        """Within the context, in which the model is run, a fault of a library becomes a PeftbenchError of one line."""
        del application, doing
        return refused_by_model(getattr(getattr(model, "config", None), "model_type", "the model"))

    def step_hook(self, model: torch.nn.Module) -> Callable[[int], None] | None:
        """Return what real training calls at each step, if anything, with the step's number, from 0.

        It is called after the optimizer's step and before the gradients are cleared: it may read them.
        """
        del model
        return None

    def is_full_step(self, model: torch.nn.Module, number: int) -> bool:
        """Tell whether a step does all that a step of the method ever does: counters and memory are of one that does.

        Of a method whose steps differ it is so of those that cost most, whatever is drawn.
        """
        del model
        return number > 0

    def trained_by(self, optimization: Optimization) -> Optimization:
        """Return how a training of the method updates weights, given what the run asks for."""
        return optimization

    def optimizer(self, model: torch.nn.Module, optimization: Optimization) -> torch.optim.Optimizer | None:
        """Return the optimizer that defines the method, or None where any (AdamW) does."""
        del model, optimization
        return None

    def auxiliary_loss(self, model: torch.nn.Module) -> torch.Tensor | None:
        """Return the regulariser that is added to the task's loss in training, if the method has one."""
        del model
        return None

    @abstractmethod
    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Write what was trained, body and head, into an existing empty folder, as safetensors."""

    @abstractmethod
    def load(self, model: PreTrainedModel, application: Application, folder: Path) -> torch.nn.Module:
        """Return a fresh model with the method applied and the weights that `save` wrote."""

    def disabled(self, model: torch.nn.Module) -> AbstractContextManager[None]:
        """Within the context the model computes what it would without the method (the trained head stays)."""
        del model
        raise UnsupportedError(f"{self.name} changes the weights themselves and cannot be disabled")

    def merge(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the model with the method's change folded into the plain weights (no adapter code is left).

        Raises:
            UnsupportedError: it cannot be done; says why.
        """
        del model
        raise UnsupportedError(self.why_not_merged or f"{self.name} does not say how it is merged")

    def merge_in_place(self, model: torch.nn.Module) -> None:
        """Fold the method's change into the plain weights, and keep what `unmerge_in_place` needs to take it out."""
        del model
        raise UnsupportedError(f"{self.name} cannot be merged in place")

    def unmerge_in_place(self, model: torch.nn.Module) -> None:
        """Take the change out of the plain weights again, after `merge_in_place`."""
        del model
        raise UnsupportedError(f"{self.name} cannot be unmerged")

    def remove(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the plain model, what the method added taken off; a trained head may stay.

        Raises:
            UnsupportedError: it cannot be done; says why.
        """
        del model
        raise UnsupportedError(f"{self.name} cannot be removed from a model")

    def add_second(self, model: torch.nn.Module) -> tuple[str, str]:
        """Add a second, untrained adapter of the same configuration; return the names of both, the active one first."""
        del model
        raise UnsupportedError(f"{self.name} cannot hold two adapters in one model")

    def activate(self, model: torch.nn.Module, adapter: str) -> None:
        """Switch to one of the adapters that `add_second` named."""
        del model
        raise UnsupportedError(f"{self.name} cannot switch to adapter {adapter!r}")


def head_names(model: PreTrainedModel) -> frozenset[str]:
    """Return the names of the top-level modules of `model` that are the task head: all outside the backbone.

    A language model has none. Its projection on the vocabulary came with it, often shares its weights with the
    embeddings, and is trained by those methods only that train the backbone.
    """
    outer = outer_names(model)
    projection = model.get_output_embeddings()
    modules = {module for name in outer for module in getattr(model, name).modules()}
    return frozenset() if projection is not None and projection in modules else outer


def outer_names(model: PreTrainedModel) -> frozenset[str]:
    """Return the names of the top-level modules of `model` outside the backbone: a head, or a language model's own."""
    children = [name for name, _ in model.named_children()]
    backbone = {model.base_model_prefix}.intersection(children) or _plain_children(cast("Hashable", type(model.config)))
    return frozenset(children) - backbone


@cache
def _plain_children(config_class: Hashable) -> frozenset[str]:
    """Return the names of the modules that a plain model consists of; a few heads (T5's span) stand beside them."""
    import torch
    from transformers import AutoModel

    from peftbench.devices.seeding import seeded

    try:
        with torch.device("meta"), seeded(0):
            plain = AutoModel.from_config(cast("type[PretrainedConfig]", config_class)())
    except Exception:  # noqa: BLE001 - a configuration of somebody else's, of which no plain model can be made
        return frozenset()
    return frozenset(name for name, _ in plain.named_children())


def is_head(parameter_name: str, heads: frozenset[str]) -> bool:
    """Tell whether a parameter, named before or after a method was applied, belongs to the task head.

    PEFT wraps a model as `base_model.model.<name>` (prompt learning: `base_model.<name>`), and a trained head as
    `<head>.modules_to_save.<adapter>`.
    """
    name = parameter_name
    if name.startswith(WRAPPER):
        name = name.removeprefix(WRAPPER).removeprefix("model.")
    return name.split(".", 1)[0] in heads


def place_of_plain(model: torch.nn.Module) -> str:
    """Return what stands before the plain model's own names in what a method returned: '', or `base_model.model.`.

    Looked for, not guessed from names: a backbone may itself be called `model`.
    """
    from transformers import PreTrainedModel

    modules = dict(model.named_modules())
    places = ("", WRAPPER, f"{WRAPPER}model.")
    return next((place for place in places if isinstance(modules.get(place.rstrip(".")), PreTrainedModel)), "")
