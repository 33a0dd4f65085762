"""Conversion of text to features, with the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peftbench.errors import UserError
from peftbench.tasks.base import Features

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerFast

INPUTS = ("input_ids", "token_type_ids")
"""Inputs of a model that features hold, with one value for each token. The attention mask follows from them."""


class RowError(UserError):
    """A row cannot be tokenised. Who knows where the row stands says so."""

    def __init__(self, number: int, problem: str, *, needs: int | None = None) -> None:
        """Keep which row it is.

        Args:
            number: Index of the row among those that were to be tokenised.
            problem: What is wrong with it.
            needs: Tokens of a sequence with which it could be used.
        """
        super().__init__(problem)
        self.number, self.problem, self.needs = number, problem, needs


def encode_texts(
    tokenizer: PreTrainedTokenizerFast, first: Sequence[str], second: Sequence[str] | None, seq_len: int
) -> list[Features]:
    """Tokenise texts, or pairs of texts. If a pair is too long, the longer text is cut first."""
    encoding = tokenizer(
        list(first),
        None if second is None else list(second),
        truncation="longest_first",
        max_length=seq_len,
        return_attention_mask=False,
        return_token_type_ids=True,
    )
    return inputs(encoding)


def inputs(encoding: BatchEncoding) -> list[Features]:
    """Return the encoding of several examples as one dictionary for each."""
    columns = {name: encoding[name] for name in INPUTS}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
