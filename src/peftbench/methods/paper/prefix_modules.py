"""Prefix tuning: trained keys and values before those of every attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionMaskInterface

from peftbench.errors import UnsupportedError
from peftbench.methods.paper.replacement import Note, Replacement, Switchable

ARGUMENT: Final = "peftbench_prefix"
"""The named argument with which the prefix passes through an attention module to its attention function."""


class Prefix(nn.Module):
    """Trained keys and values: Embedding(P, H) -> Linear(H, bottleneck) -> activation -> Linear(bottleneck, L*2*K).

    K is the width of an attention's keys, all heads together. Source: prefix tuning, arXiv 2101.00190, sections 4.2
    and 4.3.
    """

    def __init__(
        self,
        *,
        prefix_length: int,
        bottleneck_size: int,
        activation: nn.Module,
        layers: int,
        key_size: int,
        hidden_size: int,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(prefix_length, hidden_size)
        self.down = nn.Linear(hidden_size, bottleneck_size)
        self.activation = activation
        self.up = nn.Linear(bottleneck_size, layers * 2 * key_size)
        self.shape = (prefix_length, layers, 2, key_size)

    def forward(self) -> Tensor:
        """Return keys and values, [layers, 2, prefix, key size]."""
        flat: Tensor = self.up(self.activation(self.down(self.tokens.weight)))
        return flat.view(self.shape).permute(1, 2, 0, 3)


class PrefixedStack(Switchable):
    """A stack of blocks that computes its prefixes once a pass and leaves them for its attentions.

    The embeddings know nothing of it, so that positions are not shifted.

    Args:
        inner: the module that runs the blocks.
        prefixes: by kind of attention.
        notes: where each is left, under the same names.
    """

    def __init__(self, inner: nn.Module, prefixes: Mapping[str, Prefix], notes: Mapping[str, Note]) -> None:
        super().__init__(inner)
        self.prefix = nn.ModuleDict(prefixes)
        self.notes = dict(notes)
        self.train(inner.training)

    def forward(self, *inputs: Any, **arguments: Any) -> Any:  # noqa: ANN401 # passed on
        """Call the stack; see transformers."""
        # They are left until the next pass: checkpointed blocks read them again in the backward pass.
        for kind, prefix in self.prefix.items():
            self.notes[kind].value = prefix() if self.enabled else None
        return self.inner(*inputs, **arguments)


class PrefixedAttention(Replacement):
    """An attention with a prefix; how it enters, `attend` says.

    Args:
        inner: the attention module.
        note: where the prefixes of all layers are left.
        layer: whose prefix is this attention's.
    """

    def __init__(self, inner: nn.Module, note: Note, layer: int) -> None:
        super().__init__(inner)
        self.note = note
        self.layer = layer

    def forward(self, *inputs: Any, **arguments: Any) -> Any:  # noqa: ANN401 # passed on
        """Call the attention; see transformers."""
        if self.note.value is None:
            return self.inner(*inputs, **arguments)
        return self.attend(self.note.value[self.layer], *inputs, **arguments)

    def attend(self, prefix: Tensor, *inputs: Any, **arguments: Any) -> Any:  # noqa: ANN401 # passed on
        """Compute what the attention does with keys and values of the prefix, [2, prefix, key size], before its own."""
        raise NotImplementedError


class PrefixedFunction(PrefixedAttention):
    """An attention that hands the prefix on to the attention function of transformers that it calls.

    Raises:
        UnsupportedError: the attention calls none.
    """

    def __init__(self, inner: nn.Module, note: Note, layer: int) -> None:
        super().__init__(inner, note, layer)
        if not {"eager_attention_forward", "ALL_ATTENTION_FUNCTIONS"} <= _globals(inner).keys():
            raise UnsupportedError(f"{type(inner).__name__} calls no attention function of transformers")
        config: Any = inner.config
        self.implementation = config._attn_implementation.partition(_MARK)[0]  # noqa: SLF001 # no public name
        config._attn_implementation = _register(self.implementation, inner)  # noqa: SLF001

    def original(self) -> nn.Module:
        """Return the attention, which calls its own function again."""
        config: Any = self.inner.config
        config._attn_implementation = self.implementation  # noqa: SLF001
        return self.inner

    def attend(self, prefix: Tensor, *inputs: Any, **arguments: Any) -> Any:  # noqa: ANN401 # passed on
        """Call the attention with the prefix as one more argument, which reaches its function."""
        return self.inner(*inputs, **arguments, **{ARGUMENT: prefix})


def attend_with_prefix(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    function: Callable[..., Any],
    **arguments: Any,  # noqa: ANN401 # passed on
) -> Any:  # noqa: ANN401
    """Call one of transformers' attention functions, with the prefix, if there is one, before keys and values.

    The prefix has no position: it is not rotated, and gets no position bias.

    Args:
        module: the attention.
        query: [batch, heads, queries, head size].
        key: [batch, key heads, keys, head size].
        value: as `key`.
        attention_mask: see `extended`.
        function: the attention function.
        **arguments: of the function, and the prefix, [2, prefix, key size], as `ARGUMENT`.
    """
    prefix = arguments.pop(ARGUMENT, None)
    if prefix is None:
        return function(module, query, key, value, attention_mask, **arguments)
    length = prefix.shape[1]
    keys, values = heads(prefix, key.shape[1])
    if attention_mask is None and query.shape[2] > 1 and arguments.get("is_causal", getattr(module, "is_causal", True)):
        attention_mask = causal_mask(query, key)
    if arguments.get("position_bias") is not None:
        arguments["position_bias"] = functional.pad(arguments["position_bias"], (length, 0))
    return function(
        module,
        query,
        torch.cat((keys.expand(key.shape[0], -1, -1, -1), key), dim=2),
        torch.cat((values.expand(value.shape[0], -1, -1, -1), value), dim=2),
        extended(attention_mask, length),
        **arguments,
    )


def heads(prefix: Tensor, count: int) -> Tensor:
    """Split [2, prefix, key size] into heads, [2, heads, prefix, head size]."""
    return prefix.view(*prefix.shape[:2], count, -1).transpose(1, 2)


def causal_mask(query: Tensor, key: Tensor) -> Tensor:
    """Return the mask that lets query i attend to keys 0 to i, [1, 1, queries, keys], boolean.

    It is what torch's `is_causal` stands for. Further keys are places of a static cache that no token has filled yet.
    """
    queries, keys = query.shape[2], key.shape[2]
    return torch.ones(queries, keys, dtype=torch.bool, device=key.device).tril()[None, None]


def extended(mask: Tensor | None, length: int) -> Tensor | None:
    """Return the mask with `length` more keys in front, which every query attends to.

    Args:
        mask: [batch, 1, queries, keys], boolean (true: attend) or additive (0: attend); None attends everywhere.
        length: of the prefix.
    """
    if mask is None:
        return None
    return functional.pad(mask, (length, 0), value=1 if mask.dtype == torch.bool else 0)


_MARK: Final = "_with_prefix_"


def _register(base: str, attention: nn.Module) -> str:
    """Make transformers know its attention implementation `base` with a prefix; return the name."""
    known = _globals(attention)
    functions = known["ALL_ATTENTION_FUNCTIONS"]
    # The eager function is that of the model's own file.
    function = known["eager_attention_forward"] if base == "eager" else functions[base]
    name = f"{base}{_MARK}{known['__name__'].rpartition('.')[2]}"
    functions.register(name, partial(attend_with_prefix, function=function))
    AttentionMaskInterface.register(name, AttentionMaskInterface()[base])
    return name


def _globals(attention: nn.Module) -> dict[str, Any]:
    """Return the names that are known where the attention is defined."""
    forward: Any = inspect.unwrap(type(attention).forward)
    names: dict[str, Any] = forward.__globals__
    return names
