"""Prefix tuning of a BERT-like encoder: trained keys and values before those of every self-attention."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from peftbench.methods.paper.bottleneck_modules import Replacement, Switchable


class Prefix(nn.Module):
    """Trained keys and values: Embedding(P, H) -> Linear(H, bottleneck) -> activation -> Linear(bottleneck, L*2*H).

    Source: prefix tuning, arXiv 2101.00190, sections 4.2 and 4.3.
    """

    def __init__(
        self,
        *,
        prefix_length: int,
        bottleneck_size: int,
        activation: nn.Module,
        layers: int,
        heads: int,
        hidden_size: int,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(prefix_length, hidden_size)
        self.down = nn.Linear(hidden_size, bottleneck_size)
        self.activation = activation
        self.up = nn.Linear(bottleneck_size, layers * 2 * hidden_size)
        self.shape = (prefix_length, layers, 2, heads, hidden_size // heads)

    def forward(self) -> Tensor:
        """Return keys and values, [layers, 2, heads, prefix, head size]."""
        flat: Tensor = self.up(self.activation(self.down(self.tokens.weight)))
        return flat.view(self.shape).permute(1, 2, 3, 0, 4)


class PrefixStates:
    """Keys and values that stand before a self-attention's own: what transformers asks of a cache, without growing."""

    def __init__(self, states: Tensor) -> None:
        """Take the keys and values of all layers, [layers, 2, heads, prefix, head size]."""
        self.states = states

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: object) -> tuple[Tensor, Tensor]:
        """Return both, [batch, heads, tokens, head size], with the prefix of the layer before them."""
        prefix = self.states[layer_idx, :, None].expand(2, keys.shape[0], -1, -1, -1)
        return torch.cat((prefix[0], keys), dim=2), torch.cat((prefix[1], values), dim=2)


class PrefixedSelfAttention(Replacement):
    """A self-attention that takes the prefix as its past keys and values.

    It gets them under a name of their own, since transformers takes `past_key_values` away from a checkpointed layer.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.inner = attention

    def original(self) -> nn.Module:
        """Return the self-attention."""
        return self.inner

    def forward(self, hidden_states: Tensor, *, prefix: PrefixStates | None = None, **arguments: Any) -> Any:  # noqa: ANN401 # passed on
        """Call the self-attention; see transformers."""
        if prefix is not None:
            arguments["past_key_values"] = prefix
        return self.inner(hidden_states, **arguments)


class PrefixedEncoder(Switchable):
    """An encoder that computes the prefix once a pass and hands it to its self-attentions.

    The embeddings know nothing of it, so that positions are not shifted.
    """

    def __init__(self, encoder: nn.Module, blocks: Iterable[Any], prefix: Prefix) -> None:
        super().__init__()
        self.inner = encoder
        self.prefix = prefix
        for block in blocks:
            block.attention.self = PrefixedSelfAttention(block.attention.self)
        self.train(encoder.training)

    def original(self) -> nn.Module:
        """Return the encoder; its self-attentions are replaced still."""
        return self.inner

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **arguments: Any) -> Any:  # noqa: ANN401 # passed on
        """Call the encoder; see transformers."""
        if not self.enabled:
            return self.inner(hidden_states, attention_mask=attention_mask, **arguments)
        states = self.prefix()
        mask = extended(attention_mask, states.shape[3])
        return self.inner(hidden_states, attention_mask=mask, prefix=PrefixStates(states), **arguments)


def extended(mask: Tensor | None, length: int) -> Tensor | None:
    """Return the mask with `length` more keys in front, which every query attends to.

    Args:
        mask: [batch, 1, queries, keys], boolean (true: attend) or additive (0: attend); None attends everywhere.
        length: of the prefix.
    """
    if mask is None:
        return None
    attend = mask.dtype == torch.bool
    front = mask.new_full((*mask.shape[:-1], length), attend)
    return torch.cat((front, mask), dim=-1)
