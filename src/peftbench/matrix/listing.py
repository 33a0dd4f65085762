"""The contents of a catalogue, described in JSON types: methods, tasks, model presets, workloads and gate rules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from peftbench.errors import PeftbenchError
from peftbench.gate.constants import Rule
from peftbench.models import presets as models

if TYPE_CHECKING:
    from peftbench.matrix.catalogue import Catalogue
    from peftbench.methods.base import Method
    from peftbench.models.presets import ModelSource
    from peftbench.tasks.base import Batch, Task

_ROWS, _TOKENS = 8, 128
"""Most rows and tokens of the batch from which methods start whose parameters depend on data."""
Description = dict[str, Any]
"""A definition in JSON types. `name` is the name by which users refer to it."""


def methods(catalogue: Catalogue, model: str, task: str | None) -> Iterator[Description]:
    """Describe the methods for a model.

    Args:
        catalogue: The catalogue.
        model: A preset, a local folder or a hub id. Its weights are not read.
        task: Each method is applied to the model with the head of this task, and its parameters are counted. None:
            parameters are not counted; for a preset or a folder, no library is then imported.

    Raises:
        UserError: there is no such model or task.
    """
    source = models.resolve(model, catalogue.models)
    architecture = _architecture(source)
    count = _counting(source, catalogue.task(task), architecture) if task else None
    for method in catalogue.methods.values():
        refused = {
            known.name: reason
            for known in catalogue.tasks.values()
            if (reason := method.unsupported(known, architecture=architecture))
        }
        description = {
            "name": method.name,
            "family": method.family.split(),
            "summary": method.summary,
            "source": method.source,
            "defaults": dict(method.defaults),
            "mergeable": method.mergeable,
            "tasks": [name for name in catalogue.tasks if name not in refused],
            "not_tasks": refused,
        }
        yield description if count is None else {**description, "parameters": count(method)}


def tasks(catalogue: Catalogue) -> Iterator[Description]:
    """Describe the tasks."""
    for task in catalogue.tasks.values():
        yield {
            "name": task.name,
            "summary": task.summary,
            "head": str(task.head),
            "classes": len(task.labels) or None,
            "labels": list(task.labels),
            "metric": task.metric,
            "max_length": task.max_length,
            "fields": list(task.fields),
            "hub": task.hub.path if task.hub else None,
        }


def presets(catalogue: Catalogue) -> Iterator[Description]:
    """Describe the model presets."""
    for preset in catalogue.models.values():
        yield {
            "name": preset.name,
            "summary": preset.summary,
            "architecture": preset.model_type,
            "seq_len": preset.seq_len,
            "config": dict(preset.config),
        }


def workloads(catalogue: Catalogue) -> Iterator[Description]:
    """Describe the workloads."""
    for workload in catalogue.workloads.values():
        yield {
            "name": workload.name,
            "summary": workload.summary,
            "phases": list(workload.phases),
            "default": workload.default,
            "paired": workload.paired,
        }


def rules() -> Iterator[Description]:
    """Describe the constants of the gate's rule."""
    for constant in Rule.constants():
        yield {"name": constant.name, "default": constant.default, "meaning": constant.help}


def _architecture(source: ModelSource) -> str:
    raw = models.raw_config(source)
    if raw:
        return str(raw["model_type"])
    from peftbench.models.building import load_config

    return str(load_config(source).model_type)


def _counting(source: ModelSource, task: Task, architecture: str) -> Callable[[Method], Description]:
    """Return a function that counts the parameters that a method trains in the body and in the head of a model."""
    from peftbench.measure.counters.parameters import count_parameters
    from peftbench.methods.base import Application, head_names
    from peftbench.models import building

    heads = head_names(building.build_unloaded(source, task))
    real = cache(lambda: building.build_unloaded(source, task, device="cpu"))
    batches = cache(lambda: _batches(source, task))

    def counted(method: Method, model: Any, made: Sequence[Batch] = ()) -> Description:  # noqa: ANN401 - a model of transformers
        parameters = count_parameters(method.apply(model, Application(task=task, batches=made)), heads)
        return {"body": parameters.trainable_body, "head": parameters.trainable_head}

    def count(method: Method) -> Description:
        if reason := method.unsupported(task, architecture=architecture):
            return {"reason": reason}
        with suppress(Exception):  # a few methods need data, or the values of weights, which an unloaded model lacks
            return counted(method, building.build_unloaded(source, task))
        try:
            return counted(method, copy.deepcopy(real()), batches())
        except PeftbenchError as error:
            return {"reason": str(error)}
        except Exception as error:  # noqa: BLE001 - whatever another package's method raises on a model not made for it
            return {"reason": f"{type(error).__name__}: {error}".splitlines()[0]}

    return count


def _batches(source: ModelSource, task: Task) -> tuple[Batch]:
    """Return one synthetic batch of `task`, from which methods start that need data."""
    from peftbench.models.building import load_config
    from peftbench.models.vocabulary import text_config, vocabulary

    config = load_config(source)
    words = vocabulary(config, None)
    longest = models.max_positions(text_config(config).to_dict()) or task.max_length
    length = min(longest, task.max_length, _TOKENS)
    return (task.collate(task.synthetic(_ROWS, words, length, 0), words),)
