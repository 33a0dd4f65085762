"""Tasks that sort a text, or a pair of texts, into classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from peftbench.tasks import synthetic
from peftbench.tasks.base import Batch, Features, Head, HubSource, Row, Task, Vocabulary
from peftbench.tasks.encoding import encode_texts
from peftbench.tasks.fields import class_id, class_problem, text_problem
from peftbench.tasks.padding import pad_inputs, stacked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class ClassificationTask(Task):
    """Sorts a text, or a pair of texts, into classes."""

    head: Head = Head.SEQUENCE_CLASSIFICATION
    metric: str = "accuracy"
    peft_task_type: str | None = "SEQ_CLS"

    @property
    def texts(self) -> tuple[str, ...]:
        """The one or two fields that hold text. The last field is the label."""
        return self.fields[:-1]

    def problem(self, row: Row) -> str:
        """Return the reason why a row cannot be used, or ''."""
        label = self.fields[-1]
        return super().problem(row) or text_problem(row, self.texts) or class_problem(label, row[label], self.labels)

    def undecided(self, rows: Sequence[Row]) -> str:
        """Return that all rows are of one class, which a constant answer gets right, or ''."""
        (only, *others) = {class_id(row[self.fields[-1]], self.labels) for row in rows}
        if others or only is None:
            return ""
        return f"all {len(rows)} rows are of the class {self.labels[only]!r}, so any model that answers it is perfect"

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, seq_len: int) -> list[Features]:
        """Tokenise the texts. If a pair is too long, the longer text is cut first."""
        first, *rest = ([row[name] for row in rows] for name in self.texts)
        features = encode_texts(tokenizer, first, rest[0] if rest else None, seq_len)
        return [
            {**feature, "labels": class_id(row[self.fields[-1]], self.labels)}
            for feature, row in zip(features, rows, strict=True)
        ]

    def synthetic(self, count: int, vocabulary: Vocabulary, seq_len: int, seed: int) -> list[Features]:
        """Make examples whose labels rotate over all classes."""
        random = synthetic.source(self.name, seed)
        return [
            {**self._inputs(random, vocabulary, seq_len, number), "labels": number % len(self.labels)}
            for number in range(count)
        ]

    def _inputs(self, random: Random, vocabulary: Vocabulary, seq_len: int, number: int) -> Features:
        length = synthetic.length(random, number, seq_len)
        if len(self.texts) == 1:
            return synthetic.text(synthetic.ids(random, vocabulary, length - 2), vocabulary)
        words = synthetic.ids(random, vocabulary, length - 3)
        cut = random.randrange(1, len(words))
        return synthetic.pair(words[:cut], words[cut:], vocabulary)

    def collate(self, features: Sequence[Features], vocabulary: Vocabulary, *, pad_to: int | None = None) -> Batch:
        """Return `input_ids`, `attention_mask`, (`token_type_ids`) [B, L] and `labels` [B]."""
        return {**pad_inputs(features, vocabulary, pad_to), **stacked(features, "labels")}


TASKS: tuple[Task, ...] = (
    ClassificationTask(
        name="nli",
        labels=("entailment", "neutral", "contradiction"),
        max_length=128,
        fields=("premise", "hypothesis", "label"),
        hub=HubSource(path="facebook/xnli", configuration="en"),
        summary="Does the premise entail the hypothesis? Pairs of texts, 3 classes.",
    ),
    ClassificationTask(
        name="sentiment",
        labels=("negative", "positive"),
        max_length=128,
        fields=("text", "label"),
        hub=HubSource(path="stanfordnlp/sst2", columns={"text": "sentence"}),
        summary="Is the opinion good or bad? Single texts, 2 classes.",
    ),
    ClassificationTask(
        name="paraphrase",
        labels=("different", "same"),
        max_length=256,
        fields=("sentence1", "sentence2", "label"),
        hub=HubSource(path="google-research-datasets/paws-x", configuration="en"),
        summary="Do both sentences mean the same? Pairs of texts, 2 classes.",
    ),
)
