"""Prefixes in attentions that compute their scores themselves, without one of transformers' attention functions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from peftbench.methods.paper.prefix_modules import PrefixedAttention, extended, heads


class PrefixedMPNetAttention(PrefixedAttention):
    """MPNet's attention with a prefix, which gets no position bias."""

    def attend(
        self,
        prefix: Tensor,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        output_attentions: bool = False,  # noqa: FBT001, FBT002 # as transformers has it
        **arguments: object,
    ) -> tuple[Tensor, ...]:
        """Compute what `MPNetSelfAttention.forward` does, with the prefix before keys and values.

        Args:
            prefix: Keys and values of the prefix, [2, prefix, key size].
            hidden_states: Shape [batch, tokens, hidden size].
            attention_mask: Added to the scores; None: nothing is masked.
            position_bias: Shape [batch, heads, tokens, tokens], added to the scores. The prefix has none.
            output_attentions: Whether the weights are returned beside the output.
            arguments: What later releases of transformers pass; it is not used.
        """
        del arguments
        inner: Any = self.inner
        shape = (*hidden_states.shape[:-1], inner.num_attention_heads, -1)
        query, key, value = (layer(hidden_states).view(shape).transpose(1, 2) for layer in (inner.q, inner.k, inner.v))
        keys, values = heads(prefix, key.shape[1]).unsqueeze(1).expand(-1, key.shape[0], -1, -1, -1)
        scores = query @ torch.cat((keys, key), dim=2).transpose(-1, -2) / math.sqrt(inner.attention_head_size)
        if position_bias is not None:
            scores = scores + functional.pad(position_bias, (prefix.shape[1], 0))
        mask = extended(attention_mask, prefix.shape[1])
        if mask is not None:
            scores = scores + mask
        weights = inner.dropout(scores.softmax(dim=-1))
        mixed = (weights @ torch.cat((values, value), dim=2)).transpose(1, 2).flatten(2)
        output: Tensor = inner.o(mixed)
        return (output, weights) if output_attentions else (output,)


class PrefixedDisentangledAttention(PrefixedAttention):
    """The attention of DeBERTa-v2 and v3 with a prefix, which takes no part in relative positions."""

    def attend(  # noqa: PLR0917 # as transformers has it
        self,
        prefix: Tensor,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,  # noqa: FBT001, FBT002 # as transformers has it
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute what `DisentangledSelfAttention.forward` does, with the prefix before keys and values.

        Args:
            prefix: Keys and values of the prefix, [2, prefix, key size].
            hidden_states: Shape [batch, tokens, hidden size].
            attention_mask: True where a token may be looked at; shape [batch, 1, tokens, tokens].
            output_attentions: Whether the weights are returned beside the output.
            query_states: Where queries come from; None: `hidden_states`.
            relative_pos: Distances between tokens.
            rel_embeddings: Their embeddings.
        """
        inner: Any = self.inner
        batch, length = hidden_states.shape[0], prefix.shape[1]
        states = (hidden_states if query_states is None else query_states, hidden_states, hidden_states)
        layers = (inner.query_proj, inner.key_proj, inner.value_proj)
        query, key, value = (
            inner.transpose_for_scores(layer(state), inner.num_attention_heads)  # [batch * heads, tokens, head size]
            for layer, state in zip(layers, states, strict=True)
        )
        keys, values = heads(prefix, inner.num_attention_heads).repeat(1, batch, 1, 1)
        parts = 1 + ("c2p" in inner.pos_att_type) + ("p2c" in inner.pos_att_type)
        scores = query @ torch.cat((keys, key), dim=1).transpose(-1, -2) / math.sqrt(query.shape[-1] * parts)
        if inner.relative_attention:
            bias = inner.disentangled_attention_bias(query, key, relative_pos, inner.pos_dropout(rel_embeddings), parts)
            if isinstance(bias, Tensor):  # 0 if neither content nor position is asked for
                scores = scores + functional.pad(bias, (length, 0))
        scores = scores.view(batch, -1, *scores.shape[1:])
        mask = functional.pad(attention_mask.bool(), (length, 0), value=True)
        weights = inner.dropout(scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1))
        mixed = weights @ torch.cat((values, value), dim=1).view(batch, inner.num_attention_heads, -1, value.shape[-1])
        return mixed.transpose(1, 2).flatten(2), weights if output_attentions else None
