"""Fine-tuning of a language model on prompts and their completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench.tasks import packing, synthetic
from peftbench.tasks.base import Batch, Features, Head, HubSource, Row, Task, Vocabulary
from peftbench.tasks.exchange import FORMS, Exchange, exchange, form_problem
from peftbench.tasks.padding import IGNORED, pad_inputs, padded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class CausalTask(Task):
    """Continues a text. The loss is on the tokens of the completion and on the one that ends it.

    Labels are those of transformers: aligned with the tokens (a model shifts them itself), -100 on prompt and padding.
    """

    head: Head = Head.CAUSAL_LM
    labels: tuple[str, ...] = ()
    fields: tuple[str, ...] = tuple(FORMS)
    metric: str = "token_accuracy"
    peft_task_type: str | None = "CAUSAL_LM"
    default: bool = False
    packable: bool = True

    def problem(self, row: Row) -> str:
        """Return the reason why a row cannot be used, or ''. A row has one of three forms."""
        return form_problem(self.name, row)

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, seq_len: int) -> list[Features]:
        """Tokenise rows of any form. What is beyond `seq_len` tokens is cut.

        Raises:
            RowError: nothing that the loss is on is left of a row, or the tokenizer's chat template cannot be used.
        """
        return [one.features for one in self.exchanges(rows, tokenizer, seq_len)]

    def exchanges(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, seq_len: int) -> list[Exchange]:
        """Tokenise as `encode` does, and keep the prompts and the answers that are expected."""
        return [exchange(number, row, tokenizer, seq_len) for number, row in enumerate(rows)]

    def synthetic(self, count: int, vocabulary: Vocabulary, seq_len: int, seed: int) -> list[Features]:
        """Make prompts and completions of random tokens, each a quarter of an example or more."""
        random = synthetic.source(self.name, seed)
        examples = []
        for number in range(count):
            length = synthetic.length(random, number, seq_len)
            features = synthetic.text(synthetic.ids(random, vocabulary, length - 2), vocabulary)
            prompt = random.randint(length // 4, length - length // 4)
            examples.append({**features, "labels": [*[IGNORED] * prompt, *features["input_ids"][prompt:]]})
        return examples

    def packed(self, features: Sequence[Features], seq_len: int) -> list[Features]:
        """Return examples of up to `seq_len` tokens that hold several each, with positions that begin anew at each."""
        return packing.packed(features, seq_len)

    def collate(self, features: Sequence[Features], vocabulary: Vocabulary, *, pad_to: int | None = None) -> Batch:
        """Return `input_ids`, `labels` and `attention_mask`, each [B, L], padded on the right.

        A batch of packed examples has `position_ids` instead of the mask: transformers reads off them which tokens
        belong together.
        """
        batch = pad_inputs(features, vocabulary, pad_to)
        length = batch["input_ids"].shape[1]
        batch["labels"] = padded([feature["labels"] for feature in features], IGNORED, length)
        if features and packing.POSITIONS in features[0]:
            del batch["attention_mask"]
            batch[packing.POSITIONS] = padded([feature[packing.POSITIONS] for feature in features], 0, length)
        return batch

    def tokens(self, batch: Batch) -> int:
        """Return the number of tokens of a batch, padding left out."""
        return packing.tokens(batch) if packing.POSITIONS in batch else super().tokens(batch)


TASKS: tuple[Task, ...] = (
    CausalTask(
        name="sft",
        max_length=768,
        hub=HubSource(
            path="openai/gsm8k",
            configuration="main",
            columns={"prompt": "question", "completion": "answer"},
            splits={"train": "train[:7000]", "validation": "train[7000:]"},
        ),
        summary="Continue a prompt: supervised fine-tuning of a language model. Loss on the completion only.",
    ),
)
