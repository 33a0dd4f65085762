"""The anatomies that come with peftbench, by architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from peftbench.methods.anatomy import Anatomy, Stack, SubBlock

BERT: Final = Stack(
    blocks="encoder.layer.*",
    attention=SubBlock(
        reads="attention.self.query",
        ends="attention.output.dropout",
        norm="attention.output.LayerNorm",
        attends="attention.self",
    ),
    feed_forward=SubBlock(reads="intermediate.dense", ends="output.dropout", norm="output.LayerNorm"),
)

XLM_ROBERTA_XL: Final = replace(
    BERT,
    attention=SubBlock(
        reads="attention.self_attn_layer_norm", ends="attention.output.dropout", attends="attention.self"
    ),
    feed_forward=SubBlock(reads="LayerNorm", ends="output.dense"),
)

MEGATRON_BERT: Final = replace(
    BERT,
    attention=SubBlock(reads="attention.ln", ends="attention.output.dropout"),
    feed_forward=SubBlock(reads="ln", ends="output.dropout"),
)

DEBERTA_V1: Final = replace(BERT, attention=replace(BERT.attention, reads="attention.self.in_proj", attends=""))

# query_proj and key_proj are handed the relative positions as well, if they share those weights; value_proj never is.
DEBERTA_V2: Final = replace(
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

OPT: Final = replace(
    BART_ENCODER,
    blocks="decoder.layers.*",
    attention=SubBlock(reads="self_attn_layer_norm", ends="self_attn.out_proj", attends="self_attn"),
    feed_forward=SubBlock(reads="final_layer_norm", ends="fc2"),
)
MBART_ENCODER: Final = replace(OPT, blocks="encoder.layers.*")
MBART_DECODER: Final = replace(
    OPT,
    cross_attention=SubBlock(reads="encoder_attn_layer_norm", ends="encoder_attn.out_proj", attends="encoder_attn"),
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

GPT_NEO: Final = replace(GPT2, attention=SubBlock(reads="ln_1", ends="attn.attention.resid_dropout"))

GPT_NEOX: Final = Stack(
    blocks="layers.*",
    attention=SubBlock(reads="input_layernorm", ends="post_attention_dropout", attends="attention"),
    feed_forward=SubBlock(reads="post_attention_layernorm", ends="post_mlp_dropout"),
)

LLAMA: Final = Stack(
    blocks="layers.*",
    attention=SubBlock(reads="input_layernorm", ends="self_attn.o_proj", attends="self_attn"),
    feed_forward=SubBlock(reads="post_attention_layernorm", ends="mlp.down_proj"),
)

MIXTRAL: Final = replace(LLAMA, feed_forward=replace(LLAMA.feed_forward, ends="mlp"))

PHI3: Final = replace(
    LLAMA,
    attention=replace(LLAMA.attention, ends="resid_attn_dropout"),
    feed_forward=replace(LLAMA.feed_forward, ends="resid_mlp_dropout"),
)

# These norms are of h alone, before i is added.
GEMMA2: Final = replace(
    LLAMA,
    attention=replace(LLAMA.attention, ends="post_attention_layernorm"),
    feed_forward=SubBlock(reads="pre_feedforward_layernorm", ends="post_feedforward_layernorm"),
)

GEMMA3: Final = replace(GEMMA2, blocks="language_model.layers.*")
OLMO2: Final = replace(
    GEMMA2,
    attention=replace(GEMMA2.attention, reads="self_attn.q_proj"),
    feed_forward=replace(GEMMA2.feed_forward, reads="mlp.gate_proj"),
)

ALL: Final[tuple[Anatomy, ...]] = tuple(
    Anatomy(name=name, stacks=stacks)
    for names, stacks in (
        ("albert", (ALBERT,)),
        ("bart", (BART_ENCODER, BART_DECODER)),
        ("bert camembert data2vec-text electra ernie rembert roberta roc_bert xlm-roberta", (BERT,)),
        ("deberta", (DEBERTA_V1,)),
        ("deberta-v2", (DEBERTA_V2,)),
        ("distilbert", (DISTILBERT,)),
        ("eurobert gemma llama mistral qwen2 qwen3 smollm3 stablelm", (LLAMA,)),
        ("gemma2 gemma3_text", (GEMMA2,)),
        ("gemma3", (GEMMA3,)),
        ("gpt2 gpt_bigcode", (GPT2,)),
        ("gpt_neo", (GPT_NEO,)),
        ("gpt_neox", (GPT_NEOX,)),
        ("mbart", (MBART_ENCODER, MBART_DECODER)),
        ("megatron-bert", (MEGATRON_BERT,)),
        ("mixtral qwen2_moe qwen3_moe", (MIXTRAL,)),
        ("modernbert", (MODERNBERT,)),
        ("mpnet", (MPNET,)),
        ("mt5 t5 umt5", (T5_ENCODER, T5_DECODER)),
        ("olmo2", (OLMO2,)),
        ("opt", (OPT,)),
        ("phi3", (PHI3,)),
        ("xlm-roberta-xl", (XLM_ROBERTA_XL,)),
    )
    for name in names.split()
)

ANATOMIES: Final[Mapping[str, Anatomy]] = MappingProxyType({anatomy.name: anatomy for anatomy in ALL})
"""By `config.model_type`."""
