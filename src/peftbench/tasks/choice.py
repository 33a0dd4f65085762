"""Tasks that choose among several continuations of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from peftbench.tasks import synthetic
from peftbench.tasks.base import Batch, Features, Head, HubSource, Row, Task, Vocabulary
from peftbench.tasks.encoding import INPUTS, encode_texts
from peftbench.tasks.fields import class_id, class_problem, text_problem
from peftbench.tasks.padding import pad_inputs, stacked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHOICES: Final = ("choice1", "choice2")


@dataclass(frozen=True, kw_only=True)
class ChoiceTask(Task):
    """Chooses among continuations. The model scores each of them, so an example is a list of sequences."""

    head: Head = Head.MULTIPLE_CHOICE
    labels: tuple[str, ...] = ()
    fields: tuple[str, ...] = ("premise", *CHOICES, "question", "label")
    metric: str = "accuracy"
    peft_task_type: str | None = None

    def problem(self, row: Row) -> str:
        """Return the reason why a row cannot be used, or ''."""
        return (
            super().problem(row)
            or text_problem(row, ("premise", *CHOICES, "question"))
            or class_problem("label", row["label"], CHOICES)
        )

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, seq_len: int) -> list[Features]:
        """Tokenise the premise with each choice. The word `cause` or `effect` precedes it, as in the paper's code."""
        columns = [
            encode_texts(
                tokenizer,
                [row["premise"] for row in rows],
                [f"{row['question']} {row[choice]}" for row in rows],
                seq_len,
            )
            for choice in CHOICES
        ]
        return [
            _example(choices, class_id(row["label"], CHOICES))
            for choices, row in zip(zip(*columns, strict=True), rows, strict=True)
        ]

    def synthetic(self, count: int, vocabulary: Vocabulary, seq_len: int, seed: int) -> list[Features]:
        """Make premises with two choices of different lengths. The first choice of example 0 has the full length."""
        random = synthetic.source(self.name, seed)
        examples = []
        for number in range(count):
            lengths = [synthetic.length(random, number + place, seq_len) - 3 for place in range(len(CHOICES))]
            premise = synthetic.ids(random, vocabulary, random.randrange(1, min(lengths)))
            choices = [
                synthetic.pair(premise, synthetic.ids(random, vocabulary, length - len(premise)), vocabulary)
                for length in lengths
            ]
            examples.append(_example(choices, number % len(CHOICES)))
        return examples

    def collate(self, features: Sequence[Features], vocabulary: Vocabulary, *, pad_to: int | None = None) -> Batch:
        """Return `input_ids`, `attention_mask`, (`token_type_ids`) [B, choices, L] and `labels` [B]."""
        choices = [
            dict(zip(INPUTS, values, strict=True))
            for feature in features
            for values in zip(*(feature[name] for name in INPUTS), strict=True)
        ]
        flat = pad_inputs(choices, vocabulary, pad_to)
        batch = {name: tensor.view(len(features), -1, tensor.shape[-1]) for name, tensor in flat.items()}
        return {**batch, **stacked(features, "labels")}


def _example(choices: Sequence[Features], label: int | None) -> Features:
    return {**{name: [choice[name] for choice in choices] for name in INPUTS}, "labels": label}


TASKS: tuple[Task, ...] = (
    ChoiceTask(
        name="copa",
        max_length=256,
        hub=HubSource(path="aps/super_glue", configuration="copa"),
        summary="Which of two is the cause, or the effect, of the premise? One score for each choice.",
    ),
)
