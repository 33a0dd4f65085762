"""The base of tasks. A task fixes the head, the shape of a batch, the data and the metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from peftbench.errors import UserError, shown

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

Row = Mapping[str, Any]
"""One example as text, as in a data file."""
Features = dict[str, Any]
"""One tokenised example, not yet padded: lists of integers (for multiple choice: one list for each choice)."""
Batch = dict[str, "torch.Tensor"]
"""Arguments of a model's forward: input_ids, attention_mask, labels, ... as int64 tensors. Tasks make CPU tensors."""


class Head(StrEnum):
    """The task heads of transformers, by the name of their auto class."""

    SEQUENCE_CLASSIFICATION = "AutoModelForSequenceClassification"
    TOKEN_CLASSIFICATION = "AutoModelForTokenClassification"
    QUESTION_ANSWERING = "AutoModelForQuestionAnswering"
    MULTIPLE_CHOICE = "AutoModelForMultipleChoice"
    CAUSAL_LM = "AutoModelForCausalLM"
    """Not a head of the task's own: the projection on the vocabulary, which came with the model. It is backbone."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The token ids of a model that examples need."""

    size: int
    """Number of token ids."""
    pad: int
    """Id of the padding token."""
    start: int
    """Id of [CLS] or <s>."""
    separator: int
    """Id of [SEP] or </s>."""
    segments: int
    """Number of token types of the model. Batches have `token_type_ids` if it is 2 or more."""


@dataclass(frozen=True, slots=True)
class HubSource:
    """The place of a task's data on the hub: repository, configuration and the names of its columns."""

    path: str
    configuration: str | None = None
    columns: Mapping[str, str] | None = None
    """Field of the task -> column on the hub, if the names differ."""
    splits: Mapping[str, str] | None = None
    """Our split -> split on the hub, or a part of one, if the names differ."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A task: it makes examples and batches from rows, or from a seed."""

    name: str
    head: Head
    labels: tuple[str, ...]
    """Names of the classes, in the order of their ids; empty for span and multiple-choice tasks."""
    max_length: int
    """Largest length of a sequence in tokens, as in the paper. Longer examples are cut, or split with a stride."""
    fields: tuple[str, ...]
    """Fields that each row of a data file must have."""
    metric: str
    """Name of the headline metric: `accuracy` or `f1`."""
    peft_task_type: str | None
    """The name of PEFT's task type; None if PEFT has none (multiple choice)."""
    hub: HubSource | None = None
    """Where its data are on the hub; None if they are not there."""
    summary: str = ""
    default: bool = True
    """Whether it is measured if no task is named. Tasks that only some models can do are measured if they are named,
    or if the preset says that it is meant for them."""
    packable: bool = False
    """Whether several examples can share a sequence (`packed`)."""

    def with_labels(self, labels: Sequence[str]) -> Self:
        """Return the same task with other classes."""
        return replace(self, labels=tuple(labels))

    def named(self, names: Sequence[str]) -> Self:
        """Return the task with the classes that its training file names, in the order of their ids there.

        If the names are the numbers from 0 on, and as many as the task's classes, the task keeps its own names.

        Raises:
            UserError: the task cannot have a class of such a name.
        """
        return self if list(names) == [str(number) for number in range(len(self.labels))] else self.with_labels(names)

    def fitted(self, rows: Iterable[Row]) -> Self:
        """Return the task with the classes of its training rows, if the data decides them. Rows are not checked.

        It is called if the training file does not name its classes itself.
        """
        del rows
        return self

    def unfolded(self, row: Row) -> Iterable[tuple[str, object]]:
        """Return the rows within a row of a data file, each with its place in it (`, question 2`).

        For most tasks it is the row itself, with the place ''. The rows are not checked: `problem` does that.
        """
        return [("", row)]

    def problem(self, row: Row) -> str:
        """Return the reason why a row of a data file cannot be used, or ''."""
        missing = [name for name in self.fields if row.get(name) is None]
        if not missing:
            return ""
        given = shown(", ".join(str(name) for name, value in row.items() if value is not None))
        fields = ", ".join(self.fields)
        return f"lacks the field {missing[0]!r}; each row of task {self.name!r} has {fields}, and this one {given}"

    def undecided(self, rows: Sequence[Row]) -> str:
        """Return the reason why a score on these rows, each without a problem, cannot rank models, or ''."""
        del rows
        return ""

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, seq_len: int) -> list[Features]:
        """Tokenise rows with the model's own fast tokenizer. No example is longer than `seq_len` tokens.

        Raises:
            RowError: a row cannot be tokenised; says which.
        """

    @abstractmethod
    def synthetic(self, count: int, vocabulary: Vocabulary, seq_len: int, seed: int) -> list[Features]:
        """Make `count` examples from a seed alone. Lengths vary. The first example has exactly `seq_len` tokens.

        Args:
            count: Number of examples.
            vocabulary: Token ids that the model knows.
            seq_len: Most tokens of an example.
            seed: Equal seeds make equal examples.
        """

    @abstractmethod
    def collate(self, features: Sequence[Features], vocabulary: Vocabulary, *, pad_to: int | None = None) -> Batch:
        """Make one batch of examples with their labels, padded to the longest of them or to `pad_to` tokens.

        Tensors have the shape [examples, tokens], or [examples, choices, tokens] for multiple choice.
        """

    def packed(self, features: Sequence[Features], seq_len: int) -> list[Features]:
        """Return examples of up to `seq_len` tokens that hold several each.

        Raises:
            UserError: examples of this task cannot share a sequence.
        """
        del features, seq_len
        raise UserError(f"--peftbench-packing: task {self.name!r} has no examples that could share a sequence")

    def tokens(self, batch: Batch) -> int:
        """Return the number of tokens of a batch, padding left out."""
        return int(batch["attention_mask"].sum())
