"""What the linear layers of a backbone are for, told by their shapes and their places, whatever they are called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from peftbench.methods.peft.layers import backbone, is_linear

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from transformers import PreTrainedModel

_ATTENTION: Final = re.compile(r"att(ention|n)", re.IGNORECASE)
"""In the name or the class of a module that holds the layers of an attention."""
_AFFIX: Final = re.compile(r"^w(?=[qkv]$)|_(proj|lin|head|layer|linear)$")
"""What models put around `q`, `k`, `v`."""
_ROLES: Final = {"q": "query", "query": "query", "k": "key", "key": "key", "v": "value", "value": "value"}


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer of a block."""

    name: str
    in_attention: bool
    inputs: int
    outputs: int

    @property
    def last(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]

    @property
    def within_block(self) -> str:
        """What its name is within its block: what stands after the last number."""
        return re.split(r"(?:^|\.)\d+\.", self.name)[-1]

    @property
    def block(self) -> str:
        """Its block: all up to the last number in its name."""
        return self.name.removesuffix(self.within_block)

    @property
    def role(self) -> str:
        """`query`, `key` or `value`, where its name says so; else ''."""
        return _ROLES.get(_AFFIX.sub("", self.last.lower()), "")


def linear_layers(model: PreTrainedModel) -> list[Linear]:
    """Return the linear layers of the backbone's blocks, those outside of any block left out."""
    modules = dict(model.named_modules())
    found = [_linear(name, module, modules) for name, module in backbone(model) if is_linear(module)]
    return [layer for layer in found if layer.block]


def queries_and_values(layers: Sequence[Linear]) -> list[str]:
    """Return what the layers are called that make queries and values; where one layer makes both, that one."""
    return _roles(layers, "query", "value")


def values(layers: Sequence[Linear]) -> list[str]:
    """Return what the layers are called that make values, alone or together with queries and keys."""
    return _roles(layers, "value")


def keys_and_values(layers: Sequence[Linear]) -> list[str]:
    """Return what the layers are called that make keys and values; where one layer makes both, that one."""
    return _roles(layers, "key", "value")


def feed_forward_outputs(layers: Sequence[Linear]) -> list[str]:
    """Return what the layers are called, within a block, that lead out of the feed-forward part.

    Outside of attention they narrow the most; where nothing narrows, the last of each block.
    """
    inner = [layer for layer in layers if not layer.in_attention]
    narrowing = [layer for layer in inner if layer.inputs > layer.outputs]
    if narrowing:
        widest = max(layer.inputs for layer in narrowing)
        return _unique(layer.within_block for layer in narrowing if layer.inputs == widest)
    lasts = {layer.block: layer for layer in inner if layer.inputs == layer.outputs}
    return _unique(layer.within_block for layer in lasts.values())


def _roles(layers: Sequence[Linear], *roles: str) -> list[str]:
    attention = [layer for layer in layers if layer.in_attention]
    if {layer.role for layer in attention}.issuperset(roles):
        return [name for role in roles for name in _unique(one.last for one in attention if one.role == role)]
    joint = [layer for layer in attention if layer.outputs > layer.inputs]  # queries, keys and values side by side
    return _unique(layer.last for layer in joint)


def _unique(names: Any) -> list[str]:  # noqa: ANN401 - any iterable of texts
    return list(dict.fromkeys(names))


def _linear(name: str, module: torch.nn.Module, modules: dict[str, torch.nn.Module]) -> Linear:
    import torch

    first, second = cast("Any", module).weight.shape
    outputs, inputs = (first, second) if isinstance(module, torch.nn.Linear) else (second, first)
    parents = name.split(".")[:-1]
    holders = [type(modules[".".join(parents[: depth + 1])]).__name__ for depth in range(len(parents))]
    block = next((depth for depth in range(len(parents), 0, -1) if parents[depth - 1].isdecimal()), 0)
    inside = [*parents[block:], *holders[block:]]
    is_attention = block > 0 and holders[block - 1].endswith("Attention")  # XLM's lists of attentions, T5's of layers
    return Linear(name, is_attention or any(_ATTENTION.search(text) for text in inside), inputs, outputs)
