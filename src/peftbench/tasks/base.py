"""What a task is: it fixes the head, the shape of a batch, the data and the metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

Row = Mapping[str, Any]
"""One example as text, as it stands in a data file."""
Features = dict[str, Any]
"""One tokenised example: lists of integers (for multiple choice: one list a choice), not yet padded."""
Batch = dict[str, "torch.Tensor"]
"""What a model is called with, labels included: input_ids, attention_mask, ... as int64 tensors on the CPU."""


class Head(StrEnum):
    """The task heads of transformers, by the name of their auto class."""

    SEQUENCE_CLASSIFICATION = "AutoModelForSequenceClassification"
    TOKEN_CLASSIFICATION = "AutoModelForTokenClassification"
    QUESTION_ANSWERING = "AutoModelForQuestionAnswering"
    MULTIPLE_CHOICE = "AutoModelForMultipleChoice"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What synthetic examples need to know of a model's token ids."""

    size: int
    pad: int
    start: int
    """[CLS] or <s>."""
    separator: int
    """[SEP] or </s>."""
    segments: int
    """Number of token types of the model; `token_type_ids` are given where it is 2 or more."""


@dataclass(frozen=True, slots=True)
class HubSource:
    """Where the task's data lives on the hub: repository, configuration, revision and the names of its columns."""

    path: str
    configuration: str | None = None
    columns: Mapping[str, str] | None = None
    """Our field name -> theirs, where they differ."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What is learned."""

    name: str
    head: Head
    labels: tuple[str, ...]
    """Names of the classes, in the order of their ids; empty where there are none (span, multiple choice)."""
    max_length: int
    """Longest sequence in tokens, as the paper sets it; longer examples are cut, or split with a stride."""
    fields: tuple[str, ...]
    """Fields that each row of a data file must have."""
    metric: str
    """Name of the headline metric: `accuracy` or `f1`."""
    peft_task_type: str | None
    """The name of PEFT's task type, None where PEFT has none (multiple choice)."""
    hub: HubSource
    summary: str = ""

    def with_labels(self, labels: Sequence[str]) -> Self:
        """Return the same task with other classes."""
        return replace(self, labels=tuple(labels))

    def named(self, names: Sequence[str]) -> Self:
        """Return the task with the classes that its training file names, in the order of their ids there.

        Numbers from 0 on are no names: the task's own stay, if they are as many.

        Raises:
            UserError: the task cannot have a class of such a name.
        """
        return self if list(names) == [str(number) for number in range(len(self.labels))] else self.with_labels(names)

    def fitted(self, rows: Iterable[Row]) -> Self:
        """Return the task with the classes of its training rows, where the data decides them; rows are not checked.

        It is asked where the training file does not name its classes itself.
        """
        del rows
        return self

    def unfolded(self, row: Row) -> Iterable[tuple[str, object]]:
        """Return the rows that a row of a data file holds, each with its place in it (`, question 2`); mostly itself.

        They are not checked: `problem` is asked for each of them.
        """
        return [("", row)]

    def problem(self, row: Row) -> str:
        """Return why a row of a data file cannot be used, or ''."""
        missing = [name for name in self.fields if row.get(name) is None]
        if not missing:
            return ""
        return f"lacks the field {missing[0]!r}; each row of task {self.name!r} has {', '.join(self.fields)}"

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, seq_len: int) -> list[Features]:
        """Tokenise rows with the model's own fast tokenizer; no example is longer than `seq_len` tokens."""

    @abstractmethod
    def synthetic(self, count: int, vocabulary: Vocabulary, seq_len: int, seed: int) -> list[Features]:
        """Make `count` examples from a seed alone; lengths vary, and the first is exactly `seq_len` long."""

    @abstractmethod
    def collate(self, features: Sequence[Features], vocabulary: Vocabulary, *, pad_to: int | None = None) -> Batch:
        """Pad examples into one batch, to the longest of them or to `pad_to` tokens, labels included."""
