"""Presets of language models: the shapes of published ones, with random weights."""

from __future__ import annotations

from typing import Final

from peftbench.models.presets import Preset, llama

_LLAMA_3: Final = {
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
}
_QWEN_3: Final = {
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
}


_QWEN_3_ROPE: Final = {"rope_type": "default", "rope_theta": 1000000.0}


def _shape(hidden: int, layers: int, heads: int, feed_forward: int) -> dict[str, int]:
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {**shape, "intermediate_size": feed_forward}


def _llama_3_rope(factor: float) -> dict[str, object]:
    """Return how Llama 3.1 and later stretch the positions of Llama 3, of which there were 8192."""
    stretched = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    return {"rope_type": "llama3", "rope_theta": 500000.0, "factor": factor, **stretched}


PRESETS: tuple[Preset, ...] = (
    Preset(
        name="smollm2-135m",
        summary="the shape of HuggingFaceTB/SmolLM2-135M: 30 layers of 576, vocabulary 49,152, tied embeddings",
        model_type="llama",
        config=llama(
            **_shape(576, 30, 9, 1536),
            vocab_size=49152,
            num_key_value_heads=3,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
            bos_token_id=0,
            eos_token_id=0,
        ),
        tasks=("sft",),
    ),
    Preset(
        name="qwen3-0.6b",
        summary="the shape of Qwen/Qwen3-0.6B: 28 layers of 1024, vocabulary 151,936, tied embeddings",
        model_type="qwen3",
        config=llama(**_shape(1024, 28, 16, 3072), **_QWEN_3, rope_parameters=_QWEN_3_ROPE),
        tasks=("sft",),
    ),
    Preset(
        name="llama-3.2-1b",
        summary="the shape of meta-llama/Llama-3.2-1B: 16 layers of 2048, vocabulary 128,256, tied embeddings",
        model_type="llama",
        config=llama(**_shape(2048, 16, 32, 8192), **_LLAMA_3, head_dim=64, rope_parameters=_llama_3_rope(32.0)),
        tasks=("sft",),
    ),
    Preset(
        name="llama-3.2-3b",
        summary="the shape of meta-llama/Llama-3.2-3B: 28 layers of 3072, vocabulary 128,256, tied embeddings",
        model_type="llama",
        config=llama(**_shape(3072, 28, 24, 8192), **_LLAMA_3, head_dim=128, rope_parameters=_llama_3_rope(32.0)),
        tasks=("sft",),
    ),
    Preset(
        name="llama-3.1-8b",
        summary="the shape of meta-llama/Llama-3.1-8B: 32 layers of 4096, vocabulary 128,256",
        model_type="llama",
        config=llama(
            **_shape(4096, 32, 32, 14336),
            **_LLAMA_3,
            rope_parameters=_llama_3_rope(8.0),
            tie_word_embeddings=False,
        ),
        tasks=("sft",),
    ),
    Preset(
        name="qwen3-8b",
        summary="the shape of Qwen/Qwen3-8B: 36 layers of 4096, vocabulary 151,936",
        model_type="qwen3",
        config=llama(**_shape(4096, 36, 32, 12288), **_QWEN_3, rope_parameters=_QWEN_3_ROPE, tie_word_embeddings=False),
        tasks=("sft",),
    ),
)
