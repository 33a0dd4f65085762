"""What a method promises to train, against the model from before it was applied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch

from peftbench.errors import ValidityError
from peftbench.methods.base import WRAPPER, head_names, is_head, place_of_plain

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Tensors = Mapping[str, torch.Tensor]
"""Parameters and buffers by name."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What is remembered of a model from before a method was applied to it."""

    tensors: Tensors
    """Kept, so that no identity is given to another tensor."""
    names: Mapping[int, str]
    """Of the same tensors, by identity."""
    heads: frozenset[str]
    """Names of the modules that are the task head."""
    width: int
    """Length of a token's hidden state."""

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self:
        """Look at a model that no method has touched."""
        tensors = named_tensors(model)
        return cls(
            tensors=tensors,
            names={id(tensor): name for name, tensor in tensors.items()},
            heads=head_names(model),
            width=model.config.get_text_config().hidden_size,
        )

    def has(self, tensor: torch.Tensor) -> bool:
        """Tell whether the plain model had this very tensor."""
        return id(tensor) in self.names

    def counterparts(self, name: str, tensor: torch.Tensor) -> tuple[str, ...]:
        """Return which of the plain model's parameters a tensor is, or may be a copy of; none for a new one.

        PEFT trains a copy of the head under another name: any of the head's parameters of the same kind may be its
        original.
        """
        if self.has(tensor):
            return (self.names[id(tensor)],)
        if not is_head(name, self.heads):
            return ()
        kind = name.rpartition(".")[2]
        head = ((n, t) for n, t in self.tensors.items() if is_head(n, self.heads))
        return tuple(n for n, t in head if t.shape == tensor.shape and n.rpartition(".")[2] == kind)

    def adapted(self, name: str) -> tuple[str, ...]:
        """Return the plain model's parameters in the module that a new tensor changes: the nearest that holds any.

        Args:
            name: of the tensor, within the plain model.
        """
        module = name
        while module := module.rpartition(".")[0]:
            if inside := tuple(plain for plain in self.tensors if plain.startswith(f"{module}.")):
                return inside
        return ()


@dataclass(frozen=True, slots=True)
class Promises:
    """What a method says that training does to its model."""

    trained: Tensors
    """Changes: all that requires a gradient."""
    own: Tensors
    """Those of the trained ones that the method brought, its copy of the head among them."""
    frozen: Tensors
    """Stays as it is: all other parameters, and the buffers that the plain model had. Buffers that the method brought
    are its state and may move: running statistics of gradients, priors that follow the weights."""
    place: str
    """What stands before the plain model's names in all others."""


def promises_of(model: torch.nn.Module, origin: Origin, *, trains_backbone: bool) -> Promises:
    """Return what a method promises by what it left requiring a gradient.

    Raises:
        ValidityError: nothing is trained; part of the head is frozen; a method brings parameters and trains none of
            them, or trains weight matrices of the backbone beside them (biases and norms may be) without saying so.
    """
    parameters = dict(model.named_parameters())
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    if not trained:
        raise ValidityError("nothing requires a gradient")
    _check_head(trained, origin)
    body = {name: p for name, p in parameters.items() if not is_head(name, origin.heads)}
    brought = [name for name, p in body.items() if not origin.has(p)]
    if brought and not trained.keys() & set(brought):
        raise ValidityError(f"none of the method's own parameters is trained: {some(brought)} frozen")
    matrices = [name for name, p in body.items() if name in trained and origin.has(p) and p.dim() > 1]
    if brought and matrices and not trains_backbone:
        raise ValidityError(f"weights of the backbone are trained beside the method's own: {some(matrices)}")
    place = place_of_plain(model)
    buffers = {n: b for n, b in model.named_buffers() if origin.has(b) or n.removeprefix(place) in origin.tensors}
    return Promises(
        trained=trained,
        own={name: p for name, p in trained.items() if not origin.has(p)},
        frozen={**{name: p for name, p in parameters.items() if name not in trained}, **buffers},
        place=place,
    )


def named_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers by name, a shared one once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def some(names: Sequence[str]) -> str:
    """Name the first of some tensors and say how many more there are."""
    first = names[0].removeprefix(f"{WRAPPER}model.") if names[0].startswith(WRAPPER) else names[0]
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"


def _check_head(trained: Tensors, origin: Origin) -> None:
    """Look for a trained parameter of the same shape for each of the head's: the head may have been copied."""
    plain = ((name, t) for name, t in origin.tensors.items() if is_head(name, origin.heads))
    head = {name: t.shape for name, t in plain if isinstance(t, torch.nn.Parameter)}
    frozen = Counter(head.values())
    frozen.subtract(p.shape for name, p in trained.items() if is_head(name, origin.heads))
    if missing := [name for name, shape in head.items() if frozen[shape] > 0]:
        raise ValidityError(f"the task head is not trained: {some(missing)} frozen")
