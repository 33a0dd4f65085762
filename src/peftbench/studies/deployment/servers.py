"""The base of servers of several tasks, and the servers that hold whole models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from peftbench.workloads.step import without_labels

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.devices.precision import Precision
    from peftbench.methods.base import Application, Method
    from peftbench.studies.deployment.requests import Request
    from peftbench.tasks.base import Batch

OnAnswer = Callable[[int, torch.Tensor], None]
"""Called with a request's index in its lot, and its answer, as soon as the answer is on the CPU."""


@dataclass(frozen=True)
class ServingParts:
    """Method, checkpoints and batches from which a server is made."""

    method: Method
    application: Application
    fresh_model: Callable[[], PreTrainedModel]
    """Makes a new plain model with a head, on the device."""
    folders: Sequence[Path]
    """The folder of the method's checkpoint for each task."""
    batch: Callable[[Sequence[int]], Batch]
    """Makes a batch of examples on the device, given their numbers."""
    precision: Precision
    """How models compute."""

    def load(self, number: int) -> nn.Module:
        """Return a new model with the checkpoint of one task, in evaluation mode."""
        return self.method.load(self.fresh_model(), self.application, self.folders[number]).eval()

    def logits(self, model: nn.Module, batch: Batch, **further: object) -> torch.Tensor:
        """Return the logits of each row (of a span: those of its start), in float32 on the CPU."""
        with self.forward_context(batch):
            output: torch.Tensor = model(**without_labels(batch), **further).to_tuple()[0]
        return output.float().cpu()

    def forward_context(self, batch: Batch) -> AbstractContextManager[object]:
        """Return the context of one forward pass. Autocast caches cast weights in it, so no switch may lie inside."""
        return self.precision.forward_context(batch["input_ids"].device)


class Server(ABC):
    """Answers requests for the tasks that were loaded. Task 0 is loaded first."""

    switches = False
    """Whether the server must switch between tasks."""

    def __init__(self, parts: ServingParts) -> None:
        self.parts = parts

    @abstractmethod
    def load(self, number: int) -> None:
        """Load one more task."""

    def switch(self, number: int) -> None:
        """Make task `number` the active one. This does nothing if all tasks are always active."""
        del number

    @abstractmethod
    def answer(self, window: Sequence[Request], on_answer: OnAnswer) -> None:
        """Answer the requests of a lot."""

    @abstractmethod
    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield all tensors that are held for serving. The same storage may come twice."""

    def resident_bytes(self) -> int:
        """Return the bytes of all tensors. Shared storage counts once."""
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in self.tensors()}
        return sum(storages.values())

    def _each(self, window: Sequence[Request], on_answer: OnAnswer) -> None:
        """Answer one request after the other, in order of arrival."""
        for place, request in enumerate(window):
            self.switch(request.task)
            (answer,) = self.parts.logits(self.model_of(request.task), self.parts.batch([request.example]))
            on_answer(place, answer)

    def _grouped(self, window: Sequence[Request], on_answer: OnAnswer) -> None:
        """Answer the requests of one task as one batch, task after task."""
        for task, places in by_task(window):
            self.switch(task)
            answers = self.parts.logits(
                self.model_of(task), self.parts.batch([window[place].example for place in places])
            )
            for place, answer in zip(places, answers, strict=True):
                on_answer(place, answer)

    def model_of(self, number: int) -> nn.Module:
        """Return the model that answers for a task. The task must be the active one."""
        raise NotImplementedError(number)


class ModelPerTaskServer(Server):
    """Holds one model for each task, full or merged. Requests of one task share a batch."""

    def __init__(self, parts: ServingParts, *, merged: bool) -> None:
        super().__init__(parts)
        self.models: list[nn.Module] = []
        self._merged = merged

    def load(self, number: int) -> None:
        """Load one more model."""
        model = self.parts.load(number)
        self.models.append(self.parts.method.merge(model).eval() if self._merged else model)

    def answer(self, window: Sequence[Request], on_answer: OnAnswer) -> None:
        """Answer task by task."""
        self._grouped(window, on_answer)

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield the weights of all models."""
        return chain.from_iterable(weights(model) for model in self.models)

    def model_of(self, number: int) -> nn.Module:
        """Return the task's own model."""
        return self.models[number]


class SharedModelServer(Server):
    """Holds one model that answers for every task: AdapterFusion over N adapters."""

    def __init__(self, parts: ServingParts) -> None:
        super().__init__(parts)
        self.model: Any = None

    def load(self, number: int) -> None:
        """Load the model with task 0; it holds the adapters of all tasks."""
        if number == 0:
            self.model = self.parts.load(0)

    def answer(self, window: Sequence[Request], on_answer: OnAnswer) -> None:
        """Answer the lot as one batch."""
        answers = self.parts.logits(self.model, self.parts.batch([request.example for request in window]))
        for place, answer in enumerate(answers):
            on_answer(place, answer)

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield the weights of the model."""
        return weights(self.model)


def by_task(window: Sequence[Request]) -> Iterable[tuple[int, list[int]]]:
    """Return the tasks of a lot, each with the indices of its requests, in order of arrival."""
    places: dict[int, list[int]] = {}
    for place, request in enumerate(window):
        places.setdefault(request.task, []).append(place)
    return places.items()


def weights(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield parameters and buffers."""
    return chain(model.parameters(), model.buffers())
