"""Fine-tuning of a language model on prompts and their completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from peftbench.tasks import synthetic
from peftbench.tasks.base import Batch, Features, Head, HubSource, Row, Task, Vocabulary
from peftbench.tasks.fields import text_problem
from peftbench.tasks.padding import IGNORED, pad_inputs, padded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class CausalTask(Task):
    """Continues a prompt. The loss is on the tokens of the completion and on the one that ends it.

    Labels are those of transformers: aligned with the tokens (a model shifts them itself), -100 on prompt and padding.
    """

    head: Head = Head.CAUSAL_LM
    labels: tuple[str, ...] = ()
    fields: tuple[str, ...] = ("prompt", "completion")
    metric: str = "token_accuracy"
    peft_task_type: str | None = "CAUSAL_LM"
    default: bool = False

    def problem(self, row: Row) -> str:
        """Return the reason why a row cannot be used, or ''."""
        return super().problem(row) or text_problem(row, self.fields)

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, seq_len: int) -> list[Features]:
        """Tokenise each prompt with its completion. What is beyond `seq_len` tokens is cut."""
        prompts = tokenizer([row["prompt"] for row in rows])["input_ids"]
        wholes = tokenizer([row["prompt"] + row["completion"] for row in rows])["input_ids"]
        return [
            _example(_ended(whole, tokenizer), _common(prompt, whole), seq_len)
            for prompt, whole in zip(prompts, wholes, strict=True)
        ]

    def synthetic(self, count: int, vocabulary: Vocabulary, seq_len: int, seed: int) -> list[Features]:
        """Make prompts and completions of random tokens, each a quarter of an example or more."""
        random = synthetic.source(self.name, seed)
        examples = []
        for number in range(count):
            length = synthetic.length(random, number, seq_len)
            features = synthetic.text(synthetic.ids(random, vocabulary, length - 2), vocabulary)
            prompt = random.randint(length // 4, length - length // 4)
            examples.append({**features, "labels": _labels(features["input_ids"], prompt)})
        return examples

    def collate(self, features: Sequence[Features], vocabulary: Vocabulary, *, pad_to: int | None = None) -> Batch:
        """Return `input_ids`, `attention_mask`, (`token_type_ids`) and `labels`, each [B, L], padded on the right."""
        batch = pad_inputs(features, vocabulary, pad_to)
        length = batch["input_ids"].shape[1]
        return {**batch, "labels": padded([feature["labels"] for feature in features], IGNORED, length)}


def _example(ids: list[int], prompt: int, seq_len: int) -> Features:
    kept = ids[:seq_len]
    return {"input_ids": kept, "token_type_ids": [0] * len(kept), "labels": _labels(kept, prompt)}


def _labels(ids: Sequence[int], prompt: int) -> list[int]:
    return [*[IGNORED] * min(prompt, len(ids)), *ids[prompt:]]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common at their start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _ended(ids: list[int], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the tokens with the one that ends a text, so that a model learns to stop."""
    end = tokenizer.eos_token_id
    return ids if end is None or ids[-1:] == [end] else [*ids, end]


TASKS: tuple[Task, ...] = (
    CausalTask(
        name="sft",
        max_length=768,
        hub=HubSource(
            path="openai/gsm8k", configuration="main", columns={"prompt": "question", "completion": "answer"}
        ),
        summary="Continue a prompt: supervised fine-tuning of a language model. Loss on the completion only.",
    ),
)
