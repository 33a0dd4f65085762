"""Conversion of features to tensors. Only this module pads examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from peftbench.tasks.base import Batch, Features, Vocabulary

if TYPE_CHECKING:
    import torch

IGNORED: Final = -100
"""The label of a token that does not count in the loss: the default `ignore_index` of torch's cross entropy."""


def padded(sequences: Sequence[Sequence[int]], value: int, length: int) -> torch.Tensor:
    """Return the sequences, each padded with `value` to `length`, as int64 [number of sequences, length]."""
    import torch

    rows = [[*sequence, *[value] * (length - len(sequence))] for sequence in sequences]
    return torch.tensor(rows, dtype=torch.int64)


def pad_inputs(features: Sequence[Features], vocabulary: Vocabulary, pad_to: int | None) -> Batch:
    """Return `input_ids`, `attention_mask` and, if the model has token types, `token_type_ids`, each [B, L]."""
    ids = [feature["input_ids"] for feature in features]
    length = pad_to or max(map(len, ids))
    batch = {
        "input_ids": padded(ids, vocabulary.pad, length),
        "attention_mask": padded([[1] * len(sequence) for sequence in ids], 0, length),
    }
    if vocabulary.segments > 1:
        batch["token_type_ids"] = padded([feature["token_type_ids"] for feature in features], 0, length)
    return batch


def stacked(features: Sequence[Features], *names: str) -> Batch:
    """Return the named numbers, one for each example, as int64 [B]."""
    import torch

    return {name: torch.tensor([feature[name] for feature in features], dtype=torch.int64) for name in names}
