"""A row of text for a language model -> tokens, and which of them are to be learned.

A row is `prompt` and `completion`, or `messages` of a chat, or `text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from peftbench.tasks import chat
from peftbench.tasks.base import Features, Row
from peftbench.tasks.encoding import RowError
from peftbench.tasks.fields import text_problem
from peftbench.tasks.padding import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORMS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"prompt, completion": ("prompt", "completion"), "messages": ("messages",), "text": ("text",)}
)
"""The forms of a row: what each is called, and the fields that it has. Of a row with several the first counts."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A row as an example, with the question in it and the answer that is expected."""

    features: Features
    prompt: tuple[int, ...] = ()
    """The tokens before the last answer; empty for a row of text, which has none."""
    answer: str = ""


def form_problem(task: str, row: Row) -> str:
    """Return the reason why a row has none of the forms, or ''."""
    fields = _form(row)
    if fields is None:
        half = next((names for names in FORMS.values() if any(row.get(name) is not None for name in names)), None)
        if half:
            return f"lacks the field {next(name for name in half if row.get(name) is None)!r}"
        return f"has neither of the forms of task {task!r}: {'; '.join(FORMS)}"
    if fields == ("messages",):
        return chat.problem(row["messages"])
    return text_problem(row, fields) or ("" if any(row[name] for name in fields) else f"{fields[-1]} is empty")


def exchange(number: int, row: Row, tokenizer: PreTrainedTokenizerFast, seq_len: int) -> Exchange:
    """Tokenise row `number`.

    Raises:
        RowError: nothing that is to be learned is left in `seq_len` tokens, or the chat template cannot be used.
    """
    try:
        ids, learned, prompt, answer = _parts(row, tokenizer)
    except ValueError as error:
        raise RowError(number, str(error)) from error
    # Nothing predicts the first token of a sequence.
    first = next((place for place in range(1, len(ids)) if learned[place]), None)
    if first is None:
        raise RowError(number, f"{shortened(row.get('text', ''))} has no token that could be learned")
    if first >= seq_len:
        raise RowError(
            number,
            f"its prompt has {first} tokens, and nothing of its completion is left in {seq_len}",
            needs=first + 1,
        )
    labels = [token if wanted else IGNORED for token, wanted in zip(ids[:seq_len], learned, strict=False)]
    features = {"input_ids": ids[:seq_len], "token_type_ids": [0] * len(labels), "labels": labels}
    return Exchange(features, tuple(ids[:prompt]), answer)


def _parts(row: Row, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[bool], int, str]:
    """Return tokens, which of them are learned, the length of the prompt, and the answer."""
    fields = _form(row)
    if fields == ("messages",):
        ids, learned = chat.marked(row["messages"], tokenizer)
        prompt = max((place for place in range(1, len(ids)) if learned[place] and not learned[place - 1]), default=0)
        return ids, learned, prompt, chat.last_answer(row["messages"])
    if fields == ("text",):
        ids = _ended(tokenizer(row["text"])["input_ids"], tokenizer)
        return ids, [True] * len(ids), 0, ""
    whole = _ended(tokenizer(row["prompt"] + row["completion"])["input_ids"], tokenizer)
    # A token across the border is learned: it is no token of the prompt alone.
    prompt = chat.common(tokenizer(row["prompt"])["input_ids"], whole)
    return whole, [place >= prompt for place in range(len(whole))], prompt, row["completion"]


def _form(row: Row) -> tuple[str, ...] | None:
    return next((names for names in FORMS.values() if all(row.get(name) is not None for name in names)), None)


def _ended(ids: list[int], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the tokens with the one that ends a text, so that a model learns to stop."""
    end = tokenizer.eos_token_id
    return ids if end is None or ids[-1:] == [end] else [*ids, end]
