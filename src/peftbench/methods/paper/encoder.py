"""Finds the blocks of a BERT-like encoder, and the layers that a user names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import UnsupportedError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNDERSTOOD: Final = ("bert", "camembert", "data2vec-text", "electra", "ernie", "roberta", "xlm-roberta")
"""`config.model_type` of the encoders whose blocks are BERT's: attention, then a feed-forward, each closed by an output
module that computes LayerNorm(dropout(dense(x)) + residual)."""


def why_not_understood(architecture: str) -> str:
    """Return why the blocks of a model of `architecture` are not understood, or ''."""
    if architecture in UNDERSTOOD:
        return ""
    return f"the blocks of {architecture!r} are not understood; understood are those of {', '.join(UNDERSTOOD)}"


def blocks(model: PreTrainedModel) -> list[Any]:
    """Return the transformer blocks of `model`, lowest first.

    Raises:
        UnsupportedError: the model is not one of the encoders that are understood.
    """
    reason = why_not_understood(model.config.model_type)
    if not reason and getattr(model.config, "is_decoder", False):
        reason = f"{model.config.model_type} is configured as a decoder; only encoders are understood"
    if reason:
        raise UnsupportedError(reason)
    return list(model.base_model.encoder.layer)


def layer_numbers(text: str, count: int) -> list[int]:
    """Return the layers named by `text`, ascending: `all`, or numbers and ranges joined by plus signs (`0-3+11`).

    Raises:
        ValueError: the text cannot be read, or names a layer that a model of `count` layers does not have.
    """
    if text == "all":
        return list(range(count))
    found: set[int] = set()
    for part in text.split("+"):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None:
            raise ValueError(f"{part!r} is no layer; write all, or numbers and ranges such as 0-3+11")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise ValueError(f"{part} is an empty range")
        if last >= count:
            raise ValueError(f"no layer {last}; the model has layers 0 to {count - 1}")
        found.update(range(first, last + 1))
    return sorted(found)
