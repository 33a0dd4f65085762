"""Tasks that give each word a class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Final, Self

from peftbench.errors import UserError
from peftbench.tasks import synthetic
from peftbench.tasks.base import Batch, Features, Head, HubSource, Row, Task, Vocabulary
from peftbench.tasks.encoding import inputs
from peftbench.tasks.fields import class_id, class_problem, is_text
from peftbench.tasks.padding import IGNORED, pad_inputs, padded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BIO: Final = re.compile(r"O|[BI]-(.+)")
"""A tag: O is outside of an entity, B is the first and I a further word of one, with the entity's type."""
MAX_SUB_WORDS: Final = 3
"""Largest number of tokens of a word in a synthetic example."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """A row of words as an example, and the words that have a label in it."""

    features: Features
    words: tuple[int, ...]
    """Index of the word of each label, in order. A word without a token is missing."""


@dataclass(frozen=True, kw_only=True)
class TokenTask(Task):
    """Gives each word a class, on its first token. The other tokens of a word do not count in the loss."""

    head: Head = Head.TOKEN_CLASSIFICATION
    fields: tuple[str, ...] = ("tokens", "ner_tags")
    metric: str = "f1"
    peft_task_type: str | None = "TOKEN_CLS"

    def named(self, names: Sequence[str]) -> Self:
        """Return the task with the tags that the file names. Mere numbers stand for the task's own tags.

        Raises:
            UserError: a name is no BIO tag.
        """
        found = super().named(names)
        if strange := next((name for name in found.labels if not BIO.fullmatch(name)), None):
            raise UserError(f"the class {strange!r} is no tag: tags are O, B-<type> and I-<type>")
        return found

    def fitted(self, rows: Iterable[Row]) -> Self:
        """Return the task with the entity types of the rows, if one is not the task's own. O is first, then by name."""
        tags = {tag for row in rows for tag in _names(row.get("ner_tags"))}
        if tags <= set(self.labels):
            return self
        types = sorted({match[1] for tag in tags if (match := BIO.fullmatch(tag)) and match[1]})
        return self.with_labels(["O", *(f"{place}-{kind}" for kind in types for place in "BI")])

    def problem(self, row: Row) -> str:
        """Return the reason why a row cannot be used, or ''."""
        return super().problem(row) or _words_problem(row["tokens"], row["ner_tags"]) or self._tag_problem(row)

    def _tag_problem(self, row: Row) -> str:
        problems = (class_problem("ner_tags", tag, self.labels) for tag in row["ner_tags"])
        return next(filter(None, problems), "")

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, seq_len: int) -> list[Features]:
        """Tokenise lists of words. Words beyond `seq_len` tokens are cut."""
        return [one.features for one in self.tagged(rows, tokenizer, seq_len)]

    def tagged(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, seq_len: int) -> list[Tagged]:
        """Tokenise as `encode` does, and keep the indices of the words that have a label."""
        encoding = tokenizer(
            _spaced([row["tokens"] for row in rows], tokenizer),
            is_split_into_words=True,
            truncation=True,
            max_length=seq_len,
            return_attention_mask=False,
            return_token_type_ids=True,
        )
        examples = []
        for number, (feature, row) in enumerate(zip(inputs(encoding), rows, strict=True)):
            words = _first_tokens(encoding.word_ids(number))
            labels = [IGNORED if word is None else class_id(row["ner_tags"][word], self.labels) for word in words]
            seen = tuple(word for word in words if word is not None)
            examples.append(Tagged({**feature, "labels": labels}, seen))
        return examples

    def synthetic(self, count: int, vocabulary: Vocabulary, seq_len: int, seed: int) -> list[Features]:
        """Make examples of words of one to three tokens, whose tags rotate over all classes."""
        random = synthetic.source(self.name, seed)
        tags = cycle(range(len(self.labels)))
        examples = []
        for number in range(count):
            length = synthetic.length(random, number, seq_len) - 2
            labels: list[int] = []
            while len(labels) < length:
                labels += [next(tags), *[IGNORED] * random.randrange(MAX_SUB_WORDS)]
            words = synthetic.text(synthetic.ids(random, vocabulary, length), vocabulary)
            examples.append({**words, "labels": [IGNORED, *labels[:length], IGNORED]})
        return examples

    def collate(self, features: Sequence[Features], vocabulary: Vocabulary, *, pad_to: int | None = None) -> Batch:
        """Return `input_ids`, `attention_mask`, (`token_type_ids`) and `labels`, each [B, L]."""
        batch = pad_inputs(features, vocabulary, pad_to)
        length = batch["input_ids"].shape[1]
        return {**batch, "labels": padded([feature["labels"] for feature in features], IGNORED, length)}


def _spaced(rows: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerFast) -> list[list[str]]:
    """Return the words of each row, with a blank before each word if the tokenizer's pieces depend on it.

    The tokenizers of RoBERTa and GPT-2 have words with their blank. They would take a word without one for the end of
    another word.
    """
    splitter = tokenizer.backend_tokenizer.pre_tokenizer
    apart, in_text = ([piece for piece, _ in splitter.pre_tokenize_str(a)] if splitter else [] for a in ("a", " a"))
    if apart == in_text:
        return [list(words) for words in rows]
    return [[word if word[:1] in ("", " ") else f" {word}" for word in words] for words in rows]


def _first_tokens(words: Sequence[int | None]) -> list[int | None]:
    """Return, for each token, the index of the word whose first token it is; None if it is not a first token."""
    return [None if word == before else word for word, before in zip(words, (None, *words), strict=False)]


def _names(tags: object) -> list[str]:
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _words_problem(tokens: object, tags: object) -> str:
    if not isinstance(tokens, list) or not tokens:
        return f"tokens must be a list of words, not {shortened(tokens)}"
    if not isinstance(tags, list):
        return f"ner_tags must be a list with a tag for each word, not {shortened(tags)}"
    if len(tokens) != len(tags):
        return f"has {len(tokens)} tokens but {len(tags)} ner_tags"
    no_text = [token for token in tokens if not is_text(token)]
    return f"tokens must be words, not {shortened(no_text[0])}" if no_text else ""


TASKS: tuple[Task, ...] = (
    TokenTask(
        name="ner",
        labels=("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"),
        max_length=256,
        hub=HubSource(path="unimelb-nlp/wikiann", configuration="en"),
        summary="Which words name persons, organisations, places? One BIO tag for each word.",
    ),
)
