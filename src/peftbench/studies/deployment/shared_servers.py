"""Servers that share one backbone between tasks: with one head, or with one adapter, for each task."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch import nn

from peftbench.errors import UnsupportedError
from peftbench.methods.peft.library import faults_as, quiet
from peftbench.methods.peft.method import FIRST, PeftMethod
from peftbench.studies.deployment.servers import OnAnswer, Server, ServingParts, by_task, weights
from peftbench.workloads.step import without_labels

if TYPE_CHECKING:
    from peftbench.studies.deployment.requests import Request

TOLERANCES: Final[Mapping[str, float]] = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 1e-2}
"""Dtype -> largest difference between a mixed answer and that of its adapter alone, relative to the largest answer."""


class MultiTaskServer(Server):
    """One encoder with one head for each task. A lot passes the encoder as one batch, whatever its tasks are."""

    def __init__(self, parts: ServingParts) -> None:
        super().__init__(parts)
        self.models: list[Any] = []
        self._replay = _Replay()
        self._backbone: Any = None

    def load(self, number: int) -> None:
        """Add a head. The first head comes with the encoder."""
        if number == 0:
            first: Any = self.parts.load(0)
            self._backbone = first.base_model
            setattr(first, first.base_model_prefix, self._replay)
            self.models = [first]
        else:
            self.models.append(copy.deepcopy(self.models[0], {id(self._replay): self._replay}))

    def answer(self, window: Sequence[Request], on_answer: OnAnswer) -> None:
        """Answer the lot in one pass through the encoder. Each row then passes through the head of its task.

        Raises:
            UnsupportedError: the task is multiple choice, whose examples are several sequences.
        """
        batch = without_labels(self.parts.batch([request.example for request in window]))
        if batch["input_ids"].dim() > 2:  # noqa: PLR2004 - each example has several sequences
            raise UnsupportedError("multiple choice cannot be served this way: each example is several sequences")
        with self.parts.forward_context(batch):
            self._replay.outputs = self._backbone(**batch)
        for task, places in by_task(window):
            rows = torch.tensor(places, device=batch["input_ids"].device)
            self._replay.rows = rows
            answers = self.parts.logits(self.models[task], {name: part[rows] for name, part in batch.items()})
            for place, answer in zip(places, answers, strict=True):
                on_answer(place, answer)

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield the weights of the encoder and of all heads."""
        return chain(weights(self._backbone), chain.from_iterable(map(weights, self.models)))


class _Replay(nn.Module):
    """Stands in for an encoder that has run already. It returns the encoder's outputs for the chosen rows."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: Any = None
        self.rows: torch.Tensor | None = None

    def forward(self, *_: object, **__: object) -> Any:  # noqa: ANN401 - an output of transformers
        outputs, rows = self.outputs, self.rows
        return type(outputs)(
            **{name: value[rows] for name, value in outputs.items() if isinstance(value, torch.Tensor)}
        )


class Switching(Server):
    """One backbone with one adapter for each task.

    PEFT's tuners switch by `set_adapter`. For other methods the trained tensors are exchanged.

    Args:
        parts: Method, checkpoints and batches.
        grouped: Whether requests of one task share a batch.
    """

    switches = True

    def __init__(self, parts: ServingParts, *, grouped: bool) -> None:
        super().__init__(parts)
        self._grouping = grouped
        self._active = 0
        self.model: Any = None
        self._trained: dict[str, nn.Parameter] = {}
        self._states: list[dict[str, torch.Tensor]] = []
        """The trained tensors of each task; empty for PEFT's methods."""

    def load(self, number: int) -> None:
        """Add an adapter. The first adapter comes with the backbone.

        Raises:
            UnsupportedError: PEFT cannot load a further adapter, or the checkpoint has other names than the model.
        """
        if number == 0:
            self.model = self.parts.load(0)
            self._trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
            self._states = [] if self._by_peft else [{name: p.data for name, p in self._trained.items()}]
        elif self._by_peft:
            with quiet(self.model), faults_as(UnsupportedError, f"load a further {self.parts.method.name}"):
                self.model.load_adapter(self.parts.folders[number], adapter_name=adapter_name(number))
            self.model.eval()
        else:
            self._states.append(self._read(self.parts.folders[number]))

    def switch(self, number: int) -> None:
        """Make the adapter of task `number` the active one."""
        if number == self._active:
            return
        self._active = number
        if self._by_peft:
            self.model.set_adapter(adapter_name(number))
            return
        for name, tensor in self._states[number].items():
            self._trained[name].data = tensor

    def answer(self, window: Sequence[Request], on_answer: OnAnswer) -> None:
        """Answer task by task if requests are grouped, else one by one in order of arrival."""
        (self._grouped if self._grouping else self._each)(window, on_answer)

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield the tensors of backbone and adapters."""
        return chain(weights(self.model), chain.from_iterable(state.values() for state in self._states))

    def model_of(self, number: int) -> nn.Module:
        """Return the one model, which answers for all tasks."""
        del number
        return cast("nn.Module", self.model)

    @property
    def _by_peft(self) -> bool:
        return isinstance(self.parts.method, PeftMethod)

    def _read(self, folder: Path) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        device = next(iter(self._trained.values())).device
        tensors: dict[str, torch.Tensor] = {}
        for path in folder.glob("*.safetensors"):
            tensors.update(load_file(path, device=str(device)))
        if tensors.keys() != self._trained.keys():
            raise UnsupportedError(f"{self.parts.method.name} does not save its parameters by their names")
        return tensors


class Mixed(Switching):
    """One backbone with one adapter for each task. A lot's rows go through different adapters (`adapter_names`)."""

    def __init__(self, parts: ServingParts) -> None:
        if not isinstance(parts.method, PeftMethod):
            raise UnsupportedError(f"{parts.method.name}: only PEFT's methods can mix adapters in a batch")
        super().__init__(parts, grouped=False)

    def answer(self, window: Sequence[Request], on_answer: OnAnswer) -> None:
        """Answer the lot as one batch."""
        for place, answer in enumerate(self.rows(window)):
            on_answer(place, answer)

    def rows(self, window: Sequence[Request]) -> torch.Tensor:
        """Return the logits of a lot, one row for each request."""
        names = [adapter_name(request.task) for request in window]
        with faults_as(UnsupportedError, f"mix adapters of {self.parts.method.name} in one batch"):
            batch = self.parts.batch([request.example for request in window])
            return self.parts.logits(self.model, batch, adapter_names=names)

    @torch.inference_mode()
    def require_equal(self, window: Sequence[Request]) -> None:
        """Compare the answers of a mixed lot with those of each adapter alone.

        Raises:
            UnsupportedError: they differ, since the tuner ignores which adapter a row is for.
        """
        mixed = self.rows(window)
        for task, places in by_task(window):
            self.switch(task)
            alone = self.parts.logits(self.model, self.parts.batch([request.example for request in window]))
            off = float((mixed[places] - alone[places]).abs().max())
            if not off <= TOLERANCES[self.parts.precision.dtype] * max(1.0, float(alone.abs().max())):
                raise UnsupportedError(
                    f"{self.parts.method.name}: a batch of mixed adapters gives wrong answers (off by {off:.2g}); "
                    "the tuner ignores adapter_names"
                )
        self.switch(0)


def adapter_name(number: int) -> str:
    """Return PEFT's name of the adapter of a task."""
    return FIRST if number == 0 else f"task{number}"
