"""The architectures that `check_backbones.py` goes through: two narrow layers each, with random weights."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PretrainedConfig, PreTrainedTokenizerFast

VOCABULARY: Final = 160
POSITIONS: Final = 64
WORDS: Final = ("the", "queen", "of", "hearts", "made", "some", "tarts", "all", "on", "a", "summer", "day")

_ENCODER: Final[Mapping[str, Any]] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}
_DECODER: Final = {**_ENCODER, "num_key_value_heads": 2, "pad_token_id": None}
_ROBERTA: Final = {
    **_ENCODER,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
    "max_position_embeddings": POSITIONS + 2,
}
_GPT: Final = {
    "vocab_size": VOCABULARY,
    "n_positions": POSITIONS,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_T5: Final = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "eos_token_id": 3,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
_BART: Final = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": POSITIONS,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": None,
}
_XLM: Final = {
    "vocab_size": VOCABULARY,
    "emb_dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": POSITIONS,
    "bos_index": 2,
    "eos_index": 3,
    "pad_index": 0,
    "unk_index": 1,
    "bos_token_id": 2,
    "pad_token_id": 0,
}
_EXPERTS: Final = {**_DECODER, "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
_VISION: Final = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model type of transformers, and a small configuration of it."""

    name: str
    model_type: str
    config: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer, as somebody would who trained them: with the head that they were trained with."""
        import torch
        import transformers

        config: PretrainedConfig = transformers.AutoConfig.for_model(self.model_type, **self.config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _trained_as(config).from_config(config).save_pretrained(folder)
        tokenizer(self).save_pretrained(folder)


def _trained_as(config: PretrainedConfig) -> Any:  # noqa: ANN401 - an auto class of transformers
    import transformers

    decoder = () if config.is_encoder_decoder else ("AutoModelForCausalLM",)  # BART's holds half of it
    for name in ("AutoModelForSeq2SeqLM", *decoder, "AutoModelForMaskedLM"):
        auto_class = getattr(transformers, name)
        if type(config) in auto_class._model_mapping:  # noqa: SLF001 - there is no public question
            return auto_class
    return transformers.AutoModel


def tokenizer(architecture: Architecture) -> PreTrainedTokenizerFast:
    """Return a tokenizer of a few words, else letter by letter, with the special tokens where the model has them."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    if architecture.config.get("pad_token_id") == 1:
        special = {"[CLS]": 0, "[PAD]": 1, "[SEP]": 2, "[UNK]": 3}
    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [*sorted(special, key=special.__getitem__), *letters, *(f"##{letter}" for letter in letters), *WORDS]
    ids = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))  # noqa: S106 - no password
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(piece, special[piece]) for piece in ("[CLS]", "[SEP]")],
    )
    named = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    if architecture.config.get("pad_token_id", 0) is not None:
        named["pad_token"] = "[PAD]"
    return PreTrainedTokenizerFast(tokenizer_object=made, **named)


ARCHITECTURES: Final = (
    Architecture("BERT", "bert", {**_ENCODER, "type_vocab_size": 2}),
    Architecture("ALBERT", "albert", {**_ENCODER, "embedding_size": 16, "type_vocab_size": 2}),
    Architecture("BigBird", "big_bird", {**_ENCODER, "attention_type": "original_full"}),
    Architecture("CamemBERT", "camembert", _ROBERTA),
    Architecture(
        "Canine", "canine", {k: v for k, v in _ENCODER.items() if k != "vocab_size"} | {"num_hash_buckets": 64}
    ),
    Architecture("ConvBERT", "convbert", {**_ENCODER, "embedding_size": 32, "head_ratio": 2}),
    Architecture("DeBERTa", "deberta", _ENCODER),
    Architecture(
        "DeBERTa-v3",
        "deberta-v2",
        {
            **_ENCODER,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    Architecture(
        "DistilBERT",
        "distilbert",
        {
            "vocab_size": VOCABULARY,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": POSITIONS,
            "pad_token_id": 0,
        },
    ),
    Architecture("ELECTRA", "electra", {**_ENCODER, "embedding_size": 16}),
    Architecture("ERNIE", "ernie", _ENCODER),
    Architecture("ESM", "esm", {**_ROBERTA, "position_embedding_type": "rotary", "mask_token_id": 4}),
    Architecture("EuroBERT", "eurobert", {**_DECODER, "pad_token_id": 0, "mask_token_id": 4}),
    Architecture("FNet", "fnet", _ENCODER),
    Architecture(
        "Funnel",
        "funnel",
        {
            "vocab_size": VOCABULARY,
            "block_sizes": [1, 1],
            "num_decoder_layers": 1,
            "d_model": 32,
            "n_head": 4,
            "d_head": 8,
            "d_inner": 64,
            "pad_token_id": 0,
        },
    ),
    Architecture("Longformer", "longformer", {**_ROBERTA, "attention_window": 8}),
    Architecture("MobileBERT", "mobilebert", {**_ENCODER, "embedding_size": 16, "intra_bottleneck_size": 16}),
    Architecture(
        "ModernBERT",
        "modernbert",
        {**_ENCODER, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 16, "global_attn_every_n_layers": 2},
    ),
    Architecture("MPNet", "mpnet", _ROBERTA),
    Architecture("RemBERT", "rembert", {**_ENCODER, "input_embedding_size": 16, "output_embedding_size": 16}),
    Architecture("RoBERTa", "roberta", _ROBERTA),
    Architecture("RoFormer", "roformer", {**_ENCODER, "embedding_size": 32}),
    Architecture("SqueezeBERT", "squeezebert", {**_ENCODER, "embedding_size": 32}),
    Architecture("XLM", "xlm", _XLM),
    Architecture("XLM-R", "xlm-roberta", _ROBERTA),
    Architecture(
        "XLNet",
        "xlnet",
        {
            "vocab_size": VOCABULARY,
            "d_model": 32,
            "n_layer": 2,
            "n_head": 4,
            "d_inner": 64,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "pad_token_id": 0,
        },
    ),
    Architecture("BART", "bart", _BART),
    Architecture("mBART", "mbart", _BART),
    Architecture("T5", "t5", _T5),
    Architecture("mT5", "mt5", {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    Architecture(
        "BLOOM",
        "bloom",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 2, "eos_token_id": 3},
    ),
    Architecture("CTRL", "ctrl", {**_GPT, "dff": 64}),
    Architecture(
        "Falcon",
        "falcon",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
    Architecture("Gemma", "gemma", {**_DECODER, "head_dim": 8, "pad_token_id": 0}),
    Architecture("Gemma 2", "gemma2", {**_DECODER, "head_dim": 8, "pad_token_id": 0}),
    Architecture("Gemma 3", "gemma3_text", {**_DECODER, "head_dim": 8, "pad_token_id": 0}),
    Architecture(
        "Gemma 3 (vision)",
        "gemma3",
        {
            "text_config": {**_DECODER, "head_dim": 8, "pad_token_id": 0},
            "vision_config": _VISION,
            "mm_tokens_per_image": 4,
        },
    ),
    Architecture("GPT-2", "gpt2", _GPT),
    Architecture("GPTBigCode", "gpt_bigcode", {**_GPT, "n_inner": 64}),
    Architecture(
        "GPT-Neo",
        "gpt_neo",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": POSITIONS,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
    Architecture("GPT-NeoX", "gpt_neox", {**_ENCODER, "pad_token_id": None}),
    Architecture("GPT-J", "gptj", {**_GPT, "rotary_dim": 4, "tie_word_embeddings": False}),
    Architecture("Llama", "llama", _DECODER),
    Architecture("Mistral", "mistral", {**_DECODER, "sliding_window": 16}),
    Architecture("Mixtral", "mixtral", {**_DECODER, "num_local_experts": 4}),
    Architecture(
        "OPT",
        "opt",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 64,
            "max_position_embeddings": POSITIONS,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "pad_token_id": 0,
        },
    ),
    Architecture("Phi-3", "phi3", {**_DECODER, "pad_token_id": 0}),
    Architecture("Qwen2", "qwen2", _DECODER),
    Architecture("Qwen3", "qwen3", {**_DECODER, "head_dim": 8}),
    Architecture("Qwen3-MoE", "qwen3_moe", {**_EXPERTS, "head_dim": 8}),
    Architecture(
        "ModernVBERT",
        "modernvbert",
        {
            "text_config": {**_ENCODER, "model_type": "modernbert", "cls_token_id": 2, "sep_token_id": 3},
            "vision_config": {**_VISION, "model_type": "siglip_vision_model"},
        },
    ),
    Architecture("CLIP", "clip", {"text_config": _ENCODER, "vision_config": _VISION}),
    Architecture("ViT", "vit", _VISION),
)
