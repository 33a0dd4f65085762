"""What the methods have in common that freeze a backbone and put trainable modules into its blocks."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, Self

from peftbench.devices.seeding import seeded
from peftbench.methods import checkpoint
from peftbench.methods.base import Application, Method, head_names, is_head
from peftbench.methods.configuration import C, Configuration
from peftbench.methods.paper.anatomies import ANATOMIES
from peftbench.methods.paper.blocks import blocks_of, why_not_understood

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel

    from peftbench.methods.anatomy import Anatomy
    from peftbench.methods.paper.blocks import Block
    from peftbench.tasks.base import Task

CONFIGURATION: Final = "peftbench_configuration"
"""Attribute of an applied model: the configuration that its method was applied with, as JSON."""


@dataclass(frozen=True, kw_only=True)
class BlockMethod(Method, Generic[C]):
    """Freezes all but the head, then lets `attach` put modules, all of them trainable by default, into the blocks."""

    family: str = "paper"
    config: C
    """The default configuration; its fields can be overridden."""
    anatomies: Mapping[str, Anatomy] = field(default_factory=lambda: ANATOMIES)
    """The architectures that the method can be put into, by name."""

    def __post_init__(self) -> None:
        config: Any = self.config
        object.__setattr__(self, "defaults", MappingProxyType(asdict(config)))

    def unsupported(self, task: Task, *, architecture: str) -> str:
        """Return why the method cannot work on a model of `architecture`, or ''."""
        del task
        return why_not_understood(architecture, self.anatomies)

    def with_anatomies(self, anatomies: Mapping[str, Anatomy]) -> Self:
        """Return the method for these architectures."""
        return replace(self, anatomies=anatomies)

    def apply(self, model: PreTrainedModel, application: Application) -> torch.nn.Module:
        """Freeze the backbone and attach the method's modules, initialised from the application's seed alone."""
        import torch

        blocks = blocks_of(model, self.anatomies)
        configuration = Configuration.of(self.name, self.config, application.overrides)
        heads = head_names(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(is_head(name, heads))
        with torch.device("cpu"), seeded(application.seed):
            self.attach(model, blocks, configuration)
        values: Any = configuration.values
        setattr(model, CONFIGURATION, json.dumps(asdict(values), sort_keys=True))
        applied: torch.nn.Module = model
        return applied

    @abstractmethod
    def attach(self, model: PreTrainedModel, blocks: list[Block], configuration: Configuration[C]) -> None:
        """Put the method's modules into the blocks; torch's random state is seeded, and restored afterwards.

        Raises:
            UserError: a value that the user gave does not fit the model.
            UnsupportedError: a default value does not fit the model.
        """

    def about(self, model: torch.nn.Module) -> Mapping[str, str]:
        """Return what must be equal for a checkpoint to be loaded: all that the shapes of its tensors do not tell."""
        return {"method": self.name, "configuration": getattr(model, CONFIGURATION)}

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Write the trained parameters into `adapter.safetensors`."""
        checkpoint.save(model, folder, self.about(model))

    def load(self, model: PreTrainedModel, application: Application, folder: Path) -> torch.nn.Module:
        """Apply the method as it was applied to the saved model, and read the trained parameters back.

        Raises:
            UserError: the file cannot be read, or belongs to another method, configuration, model or task.
        """
        applied = self.apply(model, application)
        checkpoint.load(applied, folder, self.about(applied))
        return applied

    @contextmanager
    def disabled(self, model: torch.nn.Module) -> Iterator[None]:
        """Within the context the model computes what the plain model with the same head would, to the bit."""
        from peftbench.methods.paper.replacement import Switchable

        switches = [module for module in model.modules() if isinstance(module, Switchable)]
        before = [switch.enabled for switch in switches]
        try:
            for switch in switches:
                switch.enabled = False
            yield
        finally:
            for switch, enabled in zip(switches, before, strict=True):
                switch.enabled = enabled

    def remove(self, model: torch.nn.Module) -> torch.nn.Module:
        """Put back the modules that the method's stand for; the trained head stays."""
        from peftbench.methods.paper.replacement import restore

        restore(model)
        delattr(model, CONFIGURATION)
        return model
