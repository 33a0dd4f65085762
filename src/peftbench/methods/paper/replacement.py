"""Modules that stand for another one, and putting that one back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Replacement(nn.Module):
    """A module that stands for another one, `inner`, and calls it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.train(inner.training)

    def original(self) -> nn.Module:
        """Return the module that it stands for, and put back whatever else was changed for it."""
        return self.inner

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 # whatever the name stands for
        """Return what the module that it stands for has: others may look at its weight."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "inner":  # not there yet, or no longer
                raise
            return getattr(self.inner, name)


class Switchable(Replacement):
    """A module that stands for another one, and can be told to compute what that one would."""

    enabled: bool = True


def restore(model: nn.Module) -> None:
    """Put the module that each `Replacement` within `model` stands for back in its place."""
    for name, child in [*model.named_children()]:
        plain = child
        while isinstance(plain, Replacement):
            plain = plain.original()
        if plain is not child:
            setattr(model, name, plain)
        restore(plain)


class Note:
    """A tensor that one module leaves for another, within a pass. A copy of it starts empty."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def take(self) -> Tensor:
        """Return the tensor, and keep it no longer."""
        value, self.value = self.value, None
        if value is None:
            raise RuntimeError("the module that reads i was not called before the one that ends h: a wrong anatomy")
        return value

    def __deepcopy__(self, memo: dict[int, object]) -> Note:
        """Return an empty note, one for all copies of those that share this one."""
        return memo.setdefault(id(self), Note())  # type: ignore[return-value] # memo holds copies of what has the id


class NotedInput(Replacement):
    """A module that leaves its only input for another one."""

    def __init__(self, inner: nn.Module, note: Note) -> None:
        super().__init__(inner)
        self.note = note

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map as the module does."""
        self.note.value = hidden_states
        output: Tensor = self.inner(hidden_states)
        return output


class Dropped(Replacement):
    """A module whose output is dropped here, with the probability that the block around it did so itself."""

    def __init__(self, inner: nn.Module, block: nn.Module, attribute: str, probability: float) -> None:
        super().__init__(inner)
        self._block = (block,)  # in a tuple, where torch does not find it: it is the parent
        self.attribute = attribute
        self.probability = probability
        setattr(block, attribute, 0.0)

    def original(self) -> nn.Module:
        """Return the module; the block drops its output again."""
        setattr(self._block[0], self.attribute, self.probability)
        return self.inner

    def forward(self, x: Tensor) -> Tensor:
        """Map as the module does, and drop."""
        return torch.dropout(self.inner(x), self.probability, self.training)
