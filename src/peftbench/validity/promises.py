"""The promises of a method: which tensors it trains, compared with the plain model before the method was applied."""

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
    """The tensors of a model before a method is applied to it."""

    tensors: Tensors
    """Parameters and buffers. They are kept alive, so that no other tensor can get the id of one of them."""
    names: Mapping[int, str]
    """`id` of each of these tensors -> its name."""
    heads: frozenset[str]
    """Names of the modules that are the task head."""
    width: int
    """Length of a token's hidden state."""

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self:
        """Return the origin of a model to which no method has been applied."""
        tensors = named_tensors(model)
        return cls(
            tensors=tensors,
            names={id(tensor): name for name, tensor in tensors.items()},
            heads=head_names(model),
            width=model.config.get_text_config().hidden_size,
        )

    def has(self, tensor: torch.Tensor) -> bool:
        """Return whether the plain model has this very tensor."""
        return id(tensor) in self.names

    def counterparts(self, name: str, tensor: torch.Tensor) -> tuple[str, ...]:
        """Return the names of the plain model's parameters that a tensor is, or may be a copy of. A new one has none.

        PEFT trains a copy of the head under another name. Its original may be any parameter of the head with the same
        shape and the same last part of the name.
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
    """The tensors that training must change, and those that it must not change."""

    trained: Tensors
    """Parameters that must change: all that require a gradient."""
    own: Tensors
    """The trained parameters that the method added, including its copy of the head."""
    frozen: Tensors
    """Tensors that must not change: all other parameters, and the plain model's buffers. Buffers that the method added
    are its state and may change: running statistics of gradients, priors that follow the weights."""
    place: str
    """Prefix of the plain model's names in all other names."""


def promises_of(model: torch.nn.Module, origin: Origin, *, trains_backbone: bool) -> Promises:
    """Return the promises of a method, which follow from the parameters that it leaves requiring a gradient.

    Raises:
        ValidityError: nothing is trained; or part of the head is frozen; or the method adds parameters to the body and
            trains none of them; or it adds some and also trains weight matrices of the backbone, without declaring
            `trains_backbone` (it may train biases and norms).
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
    """Return parameters and buffers by name. A shared one appears once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def some(names: Sequence[str]) -> str:
    """Return a text with the first of the names and the number of the others."""
    first = names[0].removeprefix(f"{WRAPPER}model.") if names[0].startswith(WRAPPER) else names[0]
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"


def _check_head(trained: Tensors, origin: Origin) -> None:
    """Check that each parameter of the head has a trained one of the same shape, since the head may be a copy.

    Raises:
        ValidityError: a parameter of the head has none.
    """
    plain = ((name, t) for name, t in origin.tensors.items() if is_head(name, origin.heads))
    head = {name: t.shape for name, t in plain if isinstance(t, torch.nn.Parameter)}
    frozen = Counter(head.values())
    frozen.subtract(p.shape for name, p in trained.items() if is_head(name, origin.heads))
    if missing := [name for name, shape in head.items() if frozen[shape] > 0]:
        raise ValidityError(f"the task head is not trained: {some(missing)} frozen")
