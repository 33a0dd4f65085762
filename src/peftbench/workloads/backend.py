"""What cases share: device, model and data within a run; batches and a template model within a group."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from peftbench.data import batching
from peftbench.data import sources as data
from peftbench.devices.device import device_named
from peftbench.devices.execution import Execution
from peftbench.devices.precision import Precision
from peftbench.devices.residency import Place, free_bytes, place_of_template
from peftbench.measure.trial import BATCHES
from peftbench.methods.base import Application
from peftbench.models import building
from peftbench.models import presets as models
from peftbench.models import vocabulary as vocabularies
from peftbench.models.copies import copied_to, settled, size_bytes
from peftbench.workloads.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from peftbench.config.settings import Settings
    from peftbench.methods.base import Method
    from peftbench.records.ids import MethodSpec
    from peftbench.tasks.base import Batch, Task, Vocabulary


MOST_COPIED: Final = 50_000_000
"""Parameters of a preset above which a case's model on the CPU is drawn anew: a copy would need a second in memory."""


class Definitions(Protocol):
    """The part of the catalogue that a run needs: presets, methods and tasks by name."""

    @property
    def models(self) -> Mapping[str, models.Preset]:
        """The presets by name."""
        ...

    def method(self, name: str) -> Method:
        """Return a method by name.

        Raises:
            UserError: there is no such method; names the nearest one.
        """
        ...

    def task(self, name: str) -> Task:
        """Return a task by name.

        Raises:
            UserError: there is no such task; names the nearest one.
        """
        ...


@dataclass(frozen=True)
class Backend:
    """Device, model and data of a run, checked before anything is built."""

    settings: Settings
    definitions: Definitions
    precision: Precision
    execution: Execution
    device: torch.device
    model: models.ModelSource
    config: PretrainedConfig
    vocabulary: Vocabulary
    tokenizer: PreTrainedTokenizerFast | None
    data: data.Source

    @classmethod
    def open(cls, settings: Settings, definitions: Definitions, tasks: Iterable[Task]) -> Backend:
        """Read the model's configuration and check that `tasks` can be run. No model is built.

        Raises:
            UserError: the device, the model or the data does not exist; or the model does not support the attention
                or the sequence length.
        """
        device = device_named(settings.device if settings.device != "auto" else _default_device())
        precision = Precision.of(settings, device)
        precision.require(device)
        execution = Execution.of(settings.execution)
        execution.require(device)
        name = settings.model if settings.model != "auto" else ("xlmr-base" if device.type == "cuda" else "tiny")
        model = models.resolve(name, definitions.models)
        config = building.load_config(model)
        source = data.parse_source(settings.data)
        tokenizer = None if source == data.SYNTHETIC else vocabularies.load_tokenizer(model)
        backend = cls(
            settings=settings,
            definitions=definitions,
            precision=precision,
            execution=execution,
            device=device,
            model=model,
            config=config,
            vocabulary=vocabularies.vocabulary(config, tokenizer),
            tokenizer=tokenizer,
            data=source,
        )
        for task in tasks:
            building.check_attention(model, config, task, settings.attention)
            models.check_seq_len(model.name, vocabularies.text_config(config).to_dict(), backend.seq_len(task))
            batching.check_rows(source, task, tokenizer, backend.seq_len(task), backend.positions)
            if settings.packing and not task.packable:
                task.packed([], 0)
        return backend

    def resolved(self) -> dict[str, object]:
        """Return the settings that follow from the machine, as they were chosen."""
        return {
            "model": self.model.name,
            "device": self.device.type,
            "dtype": self.precision.dtype,
            "autocast": self.precision.autocast,
        }

    def rehearsing(self) -> Backend:
        """Return a backend whose settings make a study as short as possible: one step, one request."""
        shortest = replace(
            self.settings, epochs=1e-9, steps=None, multitask_epochs=None, eval_rows=1, requests=1, offered_load=()
        )
        return replace(self, settings=shortest)

    def seq_len(self, task: Task) -> int:
        """Return the length in tokens to which every batch of `task` is padded."""
        if self.settings.seq_len is not None:
            return self.settings.seq_len
        preset = self.model.preset
        longest = (preset and preset.seq_len) or task.max_length
        return min(longest, self.positions or longest)

    @property
    def positions(self) -> int | None:
        """The longest sequence that the model takes, in tokens, where it says one."""
        return models.max_positions(vocabularies.text_config(self.config).to_dict())

    def new_model(self, task: Task, seed: int, device: torch.device | None = None) -> PreTrainedModel:
        """Build the model with the head of `task`. `seed` determines its random weights.

        Args:
            task: Fixes the head.
            seed: Of the random weights.
            device: Where a preset's weights are drawn; None: the CPU. Those of a checkpoint are read onto the CPU.
        """
        precision = self.precision
        model = building.build_model(
            self.model, task, seed=seed, dtype=precision.weights_dtype, attention=precision.attention, device=device
        )
        building.set_padding(model, self.vocabulary.pad)
        if self.settings.gradient_checkpointing:
            building.checkpoint_layers(model)
        return model

    def template(self, task: Task) -> PreTrainedModel:
        """Return a model of which `fresh_model` makes copies; one without weights, on `meta`, if those are drawn anew.

        A large preset is drawn on the device each time unless the device has room for a template: its weights are then
        nowhere in memory twice. On CUDA a template lives where copies of it are made fastest.
        """
        if self.model.preset:
            empty = building.build_unloaded(self.model, task)
            place = self._place(size_bytes(empty))
            if place != "device" and (place or sum(weight.numel() for weight in empty.parameters()) > MOST_COPIED):
                return empty
            return self.new_model(task, self.settings.seed, self.device)
        template = self.new_model(task, self.settings.seed)
        place = self._place(size_bytes(template))
        return settled(template, place, self.device) if place else template

    def _place(self, template_bytes: int) -> Place | None:
        """Return where a template of this size lives; None on a CPU, where there is one place only."""
        import psutil

        if self.device.type != "cuda":
            return None
        return place_of_template(
            template_bytes,
            device_free_bytes=free_bytes(self.device),
            host_free_bytes=psutil.virtual_memory().available,
        )

    def fresh_model(self, task: Task, template: PreTrainedModel) -> PreTrainedModel:
        """Return a new model on the device, the same each time: a copy of the template, or drawn anew."""
        if template.device.type == "meta":
            return self.new_model(task, self.settings.seed, self.device)
        if self.device.type == "cuda" and template.device.type == "cpu":
            return copied_to(template, self.device)
        return copy.deepcopy(template).to(self.device)

    def group(self, task_name: str, batch_size: int, *, before: Group | None = None) -> Group:
        """Build what the cases of one group share.

        Args:
            task_name: Name of the task.
            batch_size: Rows of a batch.
            before: A group whose template is taken over if it has the same task.
        """
        settings = self.settings
        task = data.fitted_task(self.data, self.definitions.task(task_name))
        found = batching.batches(
            self.data,
            task,
            tokenizer=self.tokenizer,
            vocabulary=self.vocabulary,
            batch_size=batch_size,
            seq_len=self.seq_len(task),
            count=BATCHES,
            seed=settings.seed,
            packing=settings.packing,
            positions=self.positions,
        )
        template = before.template if before is not None and before.task == task else self.template(task)
        on_device = tuple({name: part.to(self.device) for name, part in batch.items()} for batch in found)
        return Group(self, task, batch_size, template, on_device)


@dataclass(frozen=True)
class Group:
    """What the cases of one task and batch size share.

    It holds the batches on the device, and a template: a model that no method has changed. Every case takes a copy of
    the template, or a model of its own where the template has no weights (`Backend.template`).
    """

    backend: Backend
    task: Task
    batch_size: int
    template: PreTrainedModel
    batches: tuple[Batch, ...]

    def fresh_model(self) -> PreTrainedModel:
        """Return a new model on the device, the same each time."""
        return self.backend.fresh_model(self.task, self.template)

    def evicted(self) -> Group:
        """Return the group with its template in the host's memory. A case that did not fit gets its room."""
        return replace(self, template=self.template.cpu())

    def subject(self, spec: MethodSpec) -> Subject:
        """Return a method on this group's task."""
        return Subject(
            method=self.backend.definitions.method(spec.name),
            application=Application(
                task=self.task,
                overrides=dict(spec.overrides),
                seed=self.backend.settings.seed,
                tokens=self.backend.seq_len(self.task),
                positions=self.backend.positions,
                batches=self.batches,
                packed=self.backend.settings.packing,
            ),
            batches=self.batches,
            fresh_model=self.fresh_model,
            precision=self.backend.precision,
            execution=self.backend.execution,
        )

    @property
    def tokens(self) -> float:
        """Tokens of a batch without padding, averaged over the batches."""
        return sum(map(self.task.tokens, self.batches)) / len(self.batches)


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
