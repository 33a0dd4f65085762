"""The anatomies that come with peftbench, by architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from peftbench.methods.anatomy import Anatomy, Stack, SubBlock

_BERT_FEED_FORWARD: Final = SubBlock(reads="intermediate.dense", ends="output.dropout", norm="output.LayerNorm")

BERT: Final = Stack(
    blocks="encoder.layer.*",
    attention=SubBlock(
        reads="attention.self.query",
        ends="attention.output.dropout",
        norm="attention.output.LayerNorm",
        attends="attention.self",
    ),
    feed_forward=_BERT_FEED_FORWARD,
)

# query_proj and key_proj are handed the relative positions as well, if they share those weights; value_proj never is.
DEBERTA: Final = replace(
    BERT,
    attention=replace(BERT.attention, reads="attention.self.value_proj"),
    prefixed="peftbench.methods.paper.prefix_scores:PrefixedDisentangledAttention",
)

MPNET: Final = replace(
    BERT,
    attention=SubBlock(
        reads="attention.attn.q", ends="attention.dropout", norm="attention.LayerNorm", attends="attention.attn"
    ),
    prefixed="peftbench.methods.paper.prefix_scores:PrefixedMPNetAttention",
)

ALBERT: Final = Stack(
    blocks="encoder.albert_layer_groups.*.albert_layers.*",
    attention=SubBlock(
        reads="attention.query", ends="attention.output_dropout", norm="attention.LayerNorm", attends="attention"
    ),
    feed_forward=SubBlock(reads="ffn", ends="ffn_output", norm="full_layer_layer_norm"),
)

DISTILBERT: Final = Stack(
    blocks="transformer.layer.*",
    attention=SubBlock(reads="attention.q_lin", ends="attention.out_lin", norm="sa_layer_norm", attends="attention"),
    feed_forward=SubBlock(reads="ffn.lin1", ends="ffn.dropout", norm="output_layer_norm"),
)

MODERNBERT: Final = Stack(
    blocks="layers.*",
    attention=SubBlock(reads="attn_norm", ends="attn.out_drop", attends="attn"),
    feed_forward=SubBlock(reads="mlp_norm", ends="mlp.Wo"),
)

BART_ENCODER: Final = Stack(
    blocks="encoder.layers.*",
    attention=SubBlock(
        reads="self_attn.q_proj", ends="self_attn.out_proj", norm="self_attn_layer_norm", attends="self_attn"
    ),
    feed_forward=SubBlock(reads="fc1", ends="fc2", norm="final_layer_norm"),
    dropout="dropout",
)
BART_DECODER: Final = replace(
    BART_ENCODER,
    blocks="decoder.layers.*",
    cross_attention=SubBlock(
        reads="encoder_attn.q_proj",
        ends="encoder_attn.out_proj",
        norm="encoder_attn_layer_norm",
        attends="encoder_attn",
    ),
)

T5_ENCODER: Final = Stack(
    blocks="encoder.block.*",
    attention=SubBlock(reads="layer.0.layer_norm", ends="layer.0.dropout", attends="layer.0.SelfAttention"),
    feed_forward=SubBlock(reads="layer.1.layer_norm", ends="layer.1.dropout"),
)
T5_DECODER: Final = replace(
    T5_ENCODER,
    blocks="decoder.block.*",
    cross_attention=SubBlock(reads="layer.1.layer_norm", ends="layer.1.dropout", attends="layer.1.EncDecAttention"),
    feed_forward=SubBlock(reads="layer.2.layer_norm", ends="layer.2.dropout"),
)

GPT2: Final = Stack(
    blocks="h.*",
    attention=SubBlock(reads="ln_1", ends="attn.resid_dropout", attends="attn"),
    feed_forward=SubBlock(reads="ln_2", ends="mlp.dropout"),
)

LLAMA: Final = Stack(
    blocks="layers.*",
    attention=SubBlock(reads="input_layernorm", ends="self_attn.o_proj", attends="self_attn"),
    feed_forward=SubBlock(reads="post_attention_layernorm", ends="mlp.down_proj"),
)

# These norms are of h alone, before i is added.
GEMMA2: Final = replace(
    LLAMA,
    attention=replace(LLAMA.attention, ends="post_attention_layernorm"),
    feed_forward=SubBlock(reads="pre_feedforward_layernorm", ends="post_feedforward_layernorm"),
)

ALL: Final[tuple[Anatomy, ...]] = (
    *Anatomy(name="bert", stacks=(BERT,)).named(
        "bert", "camembert", "data2vec-text", "electra", "ernie", "roberta", "xlm-roberta"
    ),
    Anatomy(name="albert", stacks=(ALBERT,)),
    *Anatomy(name="bart", stacks=(BART_ENCODER, BART_DECODER)).named("bart"),
    Anatomy(name="deberta-v2", stacks=(DEBERTA,)),
    Anatomy(name="distilbert", stacks=(DISTILBERT,)),
    *Anatomy(name="gemma2", stacks=(GEMMA2,)).named("gemma2", "gemma3_text"),
    Anatomy(name="gpt2", stacks=(GPT2,)),
    *Anatomy(name="llama", stacks=(LLAMA,)).named("gemma", "llama", "mistral", "qwen2", "qwen3"),
    Anatomy(name="modernbert", stacks=(MODERNBERT,)),
    Anatomy(name="mpnet", stacks=(MPNET,)),
    *Anatomy(name="t5", stacks=(T5_ENCODER, T5_DECODER)).named("mt5", "t5"),
)

ANATOMIES: Final[Mapping[str, Anatomy]] = MappingProxyType({anatomy.name: anatomy for anatomy in ALL})
"""By `config.model_type`."""
