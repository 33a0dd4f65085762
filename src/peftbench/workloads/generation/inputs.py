"""The inputs of generation, and the choice of the next token. Greedy decoding alone is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peftbench.methods.peft.wrapping import decoder_of

if TYPE_CHECKING:
    import torch

    from peftbench.tasks.base import Batch


def rows_of(batch: Batch, length: int) -> torch.Tensor:
    """Return the tokens of each row, repeated and cut to a length, [batch, length]. Padding is left out by the mask.

    Packed rows have no mask, and little padding: theirs counts as text.
    """
    import torch

    tokens = batch["input_ids"]
    mask = batch.get("attention_mask")
    rows = tokens if mask is None else [row[kept.bool()] for row, kept in zip(tokens, mask, strict=True)]
    return torch.stack([row.repeat(-(-length // len(row)))[:length] for row in rows])


def arguments_of_generate(model: torch.nn.Module, capacity: int, *, compiled: bool) -> dict[str, Any]:
    """Return arguments of `generate`: greedy, a static cache, no end before the last token.

    The model's own generation settings, which may sample or punish repetition, are replaced.

    Args:
        model: The model that generates.
        capacity: Tokens of a row that the cache holds.
        compiled: Whether `generate` compiles the model for the tokens after the prompt, without CUDA graphs.
    """
    from transformers import CompileConfig, GenerationConfig

    decoder: Any = decoder_of(model)
    decoder.generation_config = GenerationConfig(pad_token_id=decoder.config.get_text_config().pad_token_id)
    arguments: dict[str, Any] = {
        "do_sample": False,
        "use_cache": True,
        "cache_implementation": "static",
        "max_cache_len": capacity,
        "disable_compile": not compiled,
    }
    if compiled:
        arguments["compile_config"] = CompileConfig(mode="default")
        arguments["compile_config"]._compile_all_devices = True  # noqa: SLF001 - `generate` leaves CPUs out otherwise
    return arguments


def next_tokens(output: Any) -> torch.Tensor:  # noqa: ANN401 - an output of transformers, not typed
    """Return the most likely next token of each row, [batch]."""
    chosen: torch.Tensor = output.logits[:, -1].argmax(dim=-1)
    return chosen
