"""A tuner of PEFT as a method: PEFT's own configuration, model, checkpoint and merge, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from peftbench.devices.seeding import seeded
from peftbench.errors import UnsupportedError
from peftbench.methods.base import Application, Method
from peftbench.methods.peft.contexts import read_nothing
from peftbench.methods.peft.layers import NO_LAYERS, Layers
from peftbench.methods.peft.library import faults_as, quiet
from peftbench.methods.peft.limits import check_dimensions, require_sequences
from peftbench.methods.peft.overrides import as_peft_has_it, checked, culprit_of, nothing_else, without_effect
from peftbench.methods.peft.quantizing import parted, quantise_backbone, remark
from peftbench.methods.peft.targets import Choice, queries_and_values, structure
from peftbench.methods.peft.wrapping import (
    config_class,
    disabled_with_head,
    is_prompt,
    none_idle,
    peft_task_type,
    tell_task,
    with_head,
)
from peftbench.methods.refusals import refused_by_model
from peftbench.tasks.base import Head

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

    from peftbench.methods.optimization import Optimization
    from peftbench.records.ids import Scalar
    from peftbench.tasks.base import Task

FIRST: Final = "default"
SECOND: Final = "second"


@dataclass(frozen=True, kw_only=True)
class PeftMethod(Method):
    """One tuner of PEFT with one configuration: `defaults`, `targets`, `fit` and `schedule`, then the overrides."""

    tuner: str
    """The name in `peft.PeftType`."""
    targets: Choice = queries_and_values
    """What the configuration takes from the model's structure: which layers are adapted."""
    fit: Callable[[Layers], Mapping[str, Any]] = as_peft_has_it
    """What the configuration takes from the dimensions of those layers."""
    read: Callable[[Application], Mapping[str, Any]] = read_nothing
    """What the configuration takes from the task's batches."""
    schedule: Callable[[int], Mapping[str, Any]] | None = None
    """What it takes from the number of training steps; if set, PEFT's `update_and_allocate` is called at each step."""
    ranks: tuple[str, ...] = ("r",)
    """Fields that no dimension of an adapted layer may be less than."""
    blocks: tuple[str, ...] = ()
    """Fields that must divide every dimension of the adapted layers."""
    refuses: Mapping[Head, str] = field(default_factory=dict)
    """Heads that the tuner cannot do -> why."""
    architectures: tuple[str, ...] = ()
    """The only architectures that the tuner can do; empty: any."""
    quantization: str = ""
    """The scheme in which the backbone's linear layers are stored; '': as they are. An override of this name wins."""
    asks_task: bool = False
    """Whether PEFT's model wants the number of the task with each batch. A case has one task, number 0."""
    variant: Callable[[Mapping[str, Any]], str] = nothing_else
    """Returns why overrides make the tuner something that cannot be measured here, or ''."""
    mergeable: bool = True
    keeps_base: bool = True
    """Whether applying it leaves the frozen weights as they were: without it the model computes as before."""
    needs_task_type: bool = False
    """Whether the tuner works in PEFT's models for one task only, not in its general one."""
    resumes: bool = True
    """Whether training can go on from a checkpoint; if not, a loaded model only infers."""
    frozen: str = ""
    """Adapter parameters whose name has this in it are not trained, though PEFT would train them."""
    idle: Callable[[torch.nn.Module], Iterator[torch.nn.Parameter]] = none_idle
    """Yields parameters that PEFT would train though no output depends on them. They are frozen."""
    regulariser: str = ""
    """The tuner's method that returns the term added to the loss in training."""
    own_optimizer: Callable[[torch.nn.Module, Optimization], torch.optim.Optimizer] | None = None

    def unsupported(self, task: Task, *, architecture: str) -> str:
        """Return why the tuner cannot do the task's head, or the architecture, or ''."""
        if self.architectures and architecture not in self.architectures:
            return f"PEFT has it for {', '.join(self.architectures)} only, and this is {architecture}"
        return self.refuses.get(task.head, "")

    @property
    def why_alone(self) -> str:
        """Return the reason why one model cannot hold several of its adapters, or ''."""
        if self.keeps_base:
            return ""
        return f"{self.name} changes the frozen weights: a second adapter would spoil the first"

    def check(self, overrides: Mapping[str, Scalar]) -> None:
        """Raise UserError where an override is none of the tuner's, or of another type."""
        _, given = parted(self.name, self.quantization, overrides)
        if given:
            with suppress(UnsupportedError):  # of a PEFT that lacks the tuner: told in the case's own row
                checked(self.name, config_class(self.tuner), given)

    def quantised(self, application: Application) -> bool:
        """Tell whether the backbone is quantised."""
        scheme, _ = parted(self.name, self.quantization, application.overrides)
        return scheme is not None

    def remarks(self, model: PreTrainedModel, application: Application) -> tuple[str, ...]:
        """Return how the adapted layers were found if not by PEFT's default, and how the backbone is quantised."""
        scheme, _ = parted(self.name, self.quantization, application.overrides)
        chosen = "" if "target_modules" in application.overrides else self.targets(model, self.tuner).remark
        return tuple(filter(None, [chosen, remark(scheme) if scheme else ""]))

    def settle(self, settings: Mapping[str, Any], given: Collection[str], layers: Layers) -> Mapping[str, Any]:
        """Return the settings such that those that were not given agree with those that were.

        Args:
            settings: All that the configuration is made of.
            given: Which of them the user gave.
            layers: Those that are adapted.

        Raises:
            UserError: what was given does not agree.
        """
        del given, layers
        return settings

    def prepare(self, model: PreTrainedModel, config: PeftConfig, application: Application) -> None:
        """Make a plain model ready for PEFT to wrap it, or to load a checkpoint onto it: quantise it where asked to."""
        del config
        scheme, _ = parted(self.name, self.quantization, application.overrides)
        if scheme:
            quantise_backbone(model, scheme)

    def start(self, model: PeftModel, application: Application) -> None:
        """Set the new weights of PEFT's new model where they come from data."""
        del self, model, application

    def configuration(self, model: PreTrainedModel, application: Application) -> PeftConfig:
        """Return PEFT's configuration for this model.

        Raises:
            UnsupportedError: the installed PEFT lacks the tuner, or the model's layers are not understood.
            UserError: an override is unknown, or does not fit the model.
        """
        kind = config_class(self.tuner)
        _, given = parted(self.name, self.quantization, application.overrides)
        overrides = checked(self.name, kind, given)
        if reason := self.variant(overrides):
            raise UnsupportedError(reason)
        found = structure(self.targets, model, self.tuner, overrides)
        settings = {**self.read(application), **self.defaults, **found, **overrides}
        layers = Layers.of(model, settings["target_modules"]) if "target_modules" in settings else NO_LAYERS
        check_dimensions(self.name, layers, overrides, ranks=self.ranks, blocks=self.blocks)
        settings = {**self.fit(layers), **settings}
        if self.schedule is not None:
            settings = {**self.schedule(application.total_steps), **settings}
        settings = {**self.settle(settings, overrides, layers)}
        with faults_as(culprit_of(application), f"configure {self.name}"), without_effect(self.name, overrides):
            task_type = peft_task_type(self.name, model, application.task, needed=self.needs_task_type)
            config = kind(task_type=task_type, **settings)
        require_sequences(self.name, config, application)
        return with_head(config, model)

    def apply(self, model: PreTrainedModel, application: Application) -> torch.nn.Module:
        """Return PEFT's model around `model`; its new weights follow from the application's seed alone."""
        from peft import get_peft_model

        config = self.configuration(model, application)
        with self._library(model, application, "apply"):
            self.prepare(model, config, application)
            wrapped = get_peft_model(model, config)
            self.start(wrapped, application)
        return self._ready(wrapped)

    @contextmanager
    def faults(self, model: torch.nn.Module, application: Application, doing: str) -> Iterator[None]:
        """Within the context a fault of PEFT becomes one line that quotes it."""
        kind = cast("Any", model).config.model_type
        with faults_as(culprit_of(application), f"{doing} {self.name} on {kind}", running=True), refused_by_model(kind):
            yield

    def step_hook(self, model: torch.nn.Module) -> Callable[[int], None] | None:
        """Return PEFT's `update_and_allocate`, for the tuners that allocate a budget in training."""
        if self.schedule is None:
            return None
        return cast("Callable[[int], None]", cast("Any", model).base_model.update_and_allocate)

    def optimizer(self, model: torch.nn.Module, optimization: Optimization) -> torch.optim.Optimizer | None:
        """Return the optimizer of those LoRA variants that are one."""
        return self.own_optimizer(model, optimization) if self.own_optimizer else None

    def auxiliary_loss(self, model: torch.nn.Module) -> torch.Tensor | None:
        """Return the tuner's regulariser, where PEFT leaves adding it to the caller."""
        if not self.regulariser:
            return None
        return cast("torch.Tensor", getattr(cast("Any", model).base_model, self.regulariser)())

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Write PEFT's checkpoint: `adapter_config.json` and `adapter_model.safetensors`."""
        # Embeddings are never trained; "auto" would ask the hub whether the vocabulary has grown.
        cast("Any", model).save_pretrained(folder, save_embedding_layers=False)

    def load(self, model: PreTrainedModel, application: Application, folder: Path) -> torch.nn.Module:
        """Return a fresh model with PEFT's checkpoint; prompts can be used, but not trained further."""
        from peft import PeftConfig, PeftModel

        with self._library(model, application, "load"):
            config = with_head(PeftConfig.from_pretrained(folder), model)
            self.prepare(model, config, application)
            loaded = PeftModel.from_pretrained(
                model, folder, config=config, is_trainable=self.resumes, torch_device=str(model.device)
            )
        return self._ready(loaded)

    def disabled(self, model: torch.nn.Module) -> AbstractContextManager[None]:
        """Within the context the adapter is bypassed; PEFT would bypass the trained head as well, this does not."""
        if not self.keeps_base:
            raise UnsupportedError(f"{self.name} changes the frozen weights when it is applied and cannot be disabled")
        return disabled_with_head(model, self.name)

    def merge(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the plain model with the adapter folded in; PEFT's faults become the reason."""
        self._require_mergeable()
        with faults_as(UnsupportedError, f"merge {self.name}"):
            return cast("torch.nn.Module", cast("Any", model).merge_and_unload())

    def merge_in_place(self, model: torch.nn.Module) -> None:
        """Fold the adapter into the plain weights, within PEFT's layers."""
        self._require_mergeable()
        with faults_as(UnsupportedError, f"merge {self.name} in place"):
            cast("Any", model).merge_adapter()

    def unmerge_in_place(self, model: torch.nn.Module) -> None:
        """Take the adapter out of the plain weights again."""
        self._require_mergeable()
        with faults_as(UnsupportedError, f"unmerge {self.name}"):
            cast("Any", model).unmerge_adapter()

    def remove(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the plain model, with PEFT's layers taken out and the trained head in its place."""
        peft_model = cast("Any", model)
        with faults_as(UnsupportedError, f"remove {self.name}"):
            plain = peft_model.get_base_model() if is_prompt(peft_model) else peft_model.unload()
        return cast("torch.nn.Module", plain)

    def add_second(self, model: torch.nn.Module) -> tuple[str, str]:
        """Add an adapter of the same configuration with its own copy of the head; the first one stays active."""
        if self.why_alone:
            raise UnsupportedError(self.why_alone)
        peft_model = cast("Any", model)
        with faults_as(UnsupportedError, f"add a second {self.name}"), quiet(peft_model):
            peft_model.add_adapter(SECOND, copy.deepcopy(peft_model.peft_config[FIRST]))
        self.activate(model, FIRST)
        return FIRST, SECOND

    def activate(self, model: torch.nn.Module, adapter: str) -> None:
        """Switch to the adapter of that name."""
        with faults_as(UnsupportedError, f"switch {self.name}"):
            cast("Any", model).set_adapter(adapter)
        self._freeze(model)

    @contextmanager
    def _library(self, model: PreTrainedModel, application: Application, doing: str) -> Iterator[None]:
        with (
            seeded(application.seed, model.device),
            quiet(model),
            faults_as(culprit_of(application), f"{doing} {self.told}"),
        ):
            yield

    @property
    def told(self) -> str:
        """What the reason of a fault calls the configuration."""
        return self.name

    def _ready(self, model: torch.nn.Module) -> torch.nn.Module:
        if self.asks_task:
            tell_task(model)
        return self._freeze(model)

    def _freeze(self, model: torch.nn.Module) -> torch.nn.Module:
        if self.frozen:
            for name, parameter in model.named_parameters():
                if self.frozen in name:
                    parameter.requires_grad_(False)  # noqa: FBT003 torch's own name
        for parameter in self.idle(model):
            parameter.requires_grad_(False)  # noqa: FBT003
        return model

    def _require_mergeable(self) -> None:
        if reason := self.why_not_merged:
            raise UnsupportedError(reason)
