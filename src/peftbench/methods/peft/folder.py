"""An adapter's folder as a method: PEFT's configuration as the user saved it, with its weights where it has any."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.base import Application
from peftbench.methods.peft import EXCLUDED, METHODS
from peftbench.methods.peft.adapter_folder import CONFIG, TRAINING, AdapterFolder
from peftbench.methods.peft.kin import OPTIMIZERS, kin_of, require_optimizer, torch_optimizer
from peftbench.methods.peft.library import faults_as
from peftbench.methods.peft.limits import require_sequences
from peftbench.methods.peft.loading import filled
from peftbench.methods.peft.method import PeftMethod
from peftbench.methods.peft.overrides import RESERVED, checked, culprit_of, without_effect
from peftbench.methods.peft.quantizing import parted
from peftbench.methods.peft.targets import structure
from peftbench.methods.peft.understanding import understood
from peftbench.methods.peft.wrapping import config_class, peft_task_type, with_head

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from peft import PeftConfig
    from transformers import PreTrainedModel

    from peftbench.methods.optimization import Optimization
    from peftbench.records.ids import Scalar
    from peftbench.tasks.base import Task

_OF_THE_MODEL: Final = frozenset({"num_attention_heads", "num_layers", "token_dim"})
"""Fields of prompts that PEFT fills in from the model, and saves."""
_SOME_STEPS: Final = 1000
"""Length of a training, where a configuration is only checked."""
_ONLY_INFERS: Final = "its checkpoint holds the prompt, and not the network that makes it, so it can only infer"


@dataclass(frozen=True, kw_only=True)
class FolderMethod(PeftMethod):
    """A tuner with the configuration of a folder. What its training adds is that of the built-in method of its kind."""

    folder: AdapterFolder
    kin: PeftMethod
    """The built-in method of the same tuner whose settings the configuration has as well."""

    @classmethod
    def of(cls, name: str, folder: AdapterFolder) -> FolderMethod:
        """Return the method of a folder, to be called `name`."""
        kin = kin_of(folder)
        optimized = next((m for m in METHODS if m.name == OPTIMIZERS.get(folder.training.optimizer)), kin)
        prompt = folder.tuner == "P_TUNING" or bool(folder.config.get("prefix_projection"))
        taken = {item.name: getattr(kin, item.name) for item in dataclasses.fields(PeftMethod)}
        return cls(
            **{
                **taken,
                "name": name,
                "family": "",
                "summary": f"{folder.tuner} as in {folder.path}",
                "source": str(folder.path),
                "defaults": {},
                "frozen": optimized.frozen,
                "own_optimizer": optimized.own_optimizer,
                "learning_rate": folder.training.learning_rate,
                "brings_weights": folder.weights is not None,
                "untrainable": _ONLY_INFERS if folder.weights and prompt else "",
            },
            folder=folder,
            kin=kin,
        )

    def unsupported(self, task: Task, *, architecture: str) -> str:
        """Return why the tuner cannot do the task, or that its weights were trained for a task of another type."""
        if self.tuner in EXCLUDED and self.kin not in METHODS:
            return EXCLUDED[self.tuner]
        trained_for = self.folder.task_type
        if self.folder.weights and trained_for and trained_for != task.peft_task_type:
            own = task.peft_task_type or "of no type that PEFT has"
            return f"its weights were trained for {trained_for}, and {task.name} is {own}"
        return super().unsupported(task, architecture=architecture)

    def check(self, overrides: Mapping[str, Scalar]) -> None:
        """Check that the installed PEFT understands the configuration, and that overrides make sense.

        Raises:
            UserError: it has entries that PEFT does not know or refuses, an unknown optimizer, or overrides of weights.
        """
        settings = self._settings(overrides)
        if self.schedule is not None:
            settings = _completed(settings, self.schedule(_SOME_STEPS))
        doing = f"read {self.folder.path / CONFIG}"
        with faults_as(UserError, doing), without_effect(self.name, overrides):
            config_class(self.tuner)(**settings)
        require_optimizer(self.folder)

    def remarks(self, model: PreTrainedModel, application: Application) -> tuple[str, ...]:
        """Return what the folder is, and how the adapted layers were found where it does not name them."""
        saved = self.folder.config.get("base_model_name_or_path")
        other = self.folder.weights and saved and not _same_model(str(saved), model.config.name_or_path)
        return (
            self.identity,
            *([f"the adapter was saved for {saved}: this model only has its shape"] if other else ()),
            *(() if self.folder.config.get("target_modules") else super().remarks(model, application)),
        )

    @property
    def told(self) -> str:
        """The file that holds the configuration."""
        return str(self.folder.path / CONFIG)

    @property
    def identity(self) -> str:
        """The folder's tuner and the digest of its content, as a record keeps it."""
        weights = "its weights" if self.folder.weights else "no weights"
        return f"{self.folder.tuner} from a folder with {weights}, content {self.folder.digest}"

    def configuration(self, model: PreTrainedModel, application: Application) -> PeftConfig:
        """Return the folder's configuration for this model.

        Raises:
            UnsupportedError: PEFT cannot adapt this model so.
            UserError: the configuration is not understood.
        """
        settings = self._settings(application.overrides)
        if reason := self.variant({name: value for name, value in settings.items() if value}):
            raise UnsupportedError(reason)
        if not settings.get("target_parameters"):
            given = {name: value for name, value in settings.items() if name == "target_modules" and value is not None}
            settings = _completed(settings, structure(self.targets, model, self.tuner, given))
        if self.schedule is not None:
            settings = _completed(settings, self.schedule(application.total_steps))
        overrides = application.overrides
        with faults_as(culprit_of(application), f"configure {self.told}"), without_effect(self.name, overrides):
            task_type = peft_task_type(self.name, model, application.task, needed=self.needs_task_type)
            config = config_class(self.tuner)(task_type=task_type, **settings)
        require_sequences(self.name, config, application)
        config.inference_mode = bool(self.untrainable)
        return self._with_modules(config, model)

    def apply(self, model: PreTrainedModel, application: Application) -> torch.nn.Module:
        """Return PEFT's model around `model`, with the folder's weights where it has any.

        Raises:
            UnsupportedError: the weights are those of a backbone of another shape, or of another head.
        """
        from peft import get_peft_model

        config = self.configuration(model, application)
        with self._library(model, application, "apply"):
            self.prepare(model, config, application)
            applied = get_peft_model(model, config, autocast_adapter_dtype=self.folder.training.autocast)
            if self.folder.weights:
                filled(applied, self.folder.weights)
            else:
                self.kin.start(applied, application)
        if self.untrainable:
            _hold_to_be_trained(applied)
        return self._ready(applied)

    def load(self, model: PreTrainedModel, application: Application, folder: Path) -> torch.nn.Module:
        """Return a fresh model with what `save` wrote."""
        from peft import PeftConfig, PeftModel

        with self._library(model, application, "load"):
            config = self._with_modules(PeftConfig.from_pretrained(folder), model)
            self.prepare(model, config, application)
            loaded = PeftModel.from_pretrained(
                model,
                folder,
                config=config,
                is_trainable=self.resumes,
                autocast_adapter_dtype=self.folder.training.autocast,
                torch_device=str(model.device),
            )
        return self._ready(loaded)

    def prepare(self, model: PreTrainedModel, config: PeftConfig, application: Application) -> None:
        """Quantise where asked to; without weights, run the plain model on the batches if the start comes from data."""
        if self.folder.weights:
            super().prepare(model, config, application)
        else:
            self.kin.prepare(model, config, application)

    def step_hook(self, model: torch.nn.Module) -> Callable[[int], None] | None:
        """Return what the built-in method calls at each step."""
        return self.kin.step_hook(model)

    def is_full_step(self, model: torch.nn.Module, number: int) -> bool:
        """Tell whether the built-in method says so."""
        return self.kin.is_full_step(model, number)

    def auxiliary_loss(self, model: torch.nn.Module) -> torch.Tensor | None:
        """Return the built-in method's regulariser."""
        return self.kin.auxiliary_loss(model)

    def trained_by(self, optimization: Optimization) -> Optimization:
        """Return the run's settings with the folder's weight decay."""
        own = self.folder.training.weight_decay
        return optimization if own is None else replace(optimization, weight_decay=own)

    def optimizer(self, model: torch.nn.Module, optimization: Optimization) -> torch.optim.Optimizer | None:
        """Return the optimizer of `training_params.json`; None where that is AdamW as in any run."""
        training = self.folder.training
        if self.own_optimizer is None and training.optimizer == "AdamW" and not training.further:
            return None
        with faults_as(UserError, f"make the optimizer of {self.folder.path / TRAINING}"):
            if self.own_optimizer is not None:
                return self.own_optimizer(model, replace(optimization, further=training.further))
            return torch_optimizer(model, optimization, training.optimizer, training.further)

    def _settings(self, overrides: Mapping[str, Scalar]) -> dict[str, Any]:
        """Return the folder's configuration, changed by overrides, without what follows from task and model."""
        from peft import PromptLearningConfig

        kind = understood(self.folder)
        _, given = parted(self.name, self.quantization, overrides)
        if given and self.folder.weights:
            raise UserError(
                f"{self.name}: overrides do not fit weights that are trained: give {self.folder.path} alone"
            )
        own = {name: value for name, value in self.folder.config.items() if name not in RESERVED}
        if issubclass(kind, PromptLearningConfig):
            own = {name: value for name, value in own.items() if name not in _OF_THE_MODEL}
        if self.folder.weights and own.get("init_lora_weights") == "eva":
            own["init_lora_weights"] = True  # what EVA starts from is in the weights
        known = {item.name for item in dataclasses.fields(kind)}
        return {**{k: v for k, v in own.items() if k in known}, **checked(self.name, kind, given)}

    def _with_modules(self, config: PeftConfig, model: PreTrainedModel) -> PeftConfig:
        """Let PEFT train and save the head, and what else the folder says, each module once."""
        wanted = self.folder.config.get("modules_to_save") or ()
        heads = list(with_head(config, model).modules_to_save or ())
        names = [name for name, _ in model.named_modules()]
        mine = [one for one in wanted if one not in heads and any(name.split(".")[-1] == one for name in names)]
        config.modules_to_save = [*heads, *mine] or None
        return config


def _completed(settings: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with further ones where they have none."""
    return {**settings, **{name: value for name, value in further.items() if settings.get(name) is None}}


def _same_model(saved: str, present: str) -> bool:
    return Path(saved).name.casefold() == Path(present).name.casefold()


def _hold_to_be_trained(model: torch.nn.Module) -> None:
    """Let the prompt and the head require a gradient, as what is the adapter's own, though only inference is run."""
    for name, parameter in model.named_parameters():
        if "prompt_encoder" in name or "modules_to_save" in name:
            parameter.requires_grad_(True)  # noqa: FBT003 torch's own name
