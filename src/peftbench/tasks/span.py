"""Tasks that find the answer to a question as a span of a context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Final

from peftbench.tasks import synthetic
from peftbench.tasks.base import Batch, Features, Head, HubSource, Row, Task, Vocabulary
from peftbench.tasks.encoding import inputs
from peftbench.tasks.fields import is_text, text_problem
from peftbench.tasks.padding import pad_inputs, stacked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

STRIDE: Final = 128
"""Tokens that two neighbouring windows of one context share, as in the paper; fewer if windows are short."""
MAX_QUESTION: Final = 64
"""Largest number of tokens of a question, as in BERT's SQuAD code; smaller if windows are short."""
MAX_SYNTHETIC_ANSWER: Final = 10
"""Largest number of tokens of a synthetic answer."""

Characters = tuple[int, int]
"""First character and end (exclusive) within the context."""


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """A question with one window of its context, as an example. The windows of a context overlap and cover it."""

    features: Features
    row: int
    """Index of the row of the context."""
    offsets: tuple[Characters | None, ...]
    """Characters of the context for each token; None for a token that is not of the context."""


@dataclass(frozen=True, kw_only=True)
class SpanTask(Task):
    """Finds the first and the last token of the answer. In a window without the answer both are the first token."""

    head: Head = Head.QUESTION_ANSWERING
    labels: tuple[str, ...] = ()
    fields: tuple[str, ...] = ("context", "question", "answers")
    metric: str = "f1"
    peft_task_type: str | None = "QUESTION_ANS"

    def unfolded(self, row: Row) -> Iterable[tuple[str, object]]:
        """Return the questions of an article or a paragraph in SQuAD's own files; for any other row, the row itself.

        There, answers are a list of objects with a text and a start, empty if there is no answer. The list is turned
        into two lists, of texts and of starts.
        """
        return list(_questions(row))

    def problem(self, row: Row) -> str:
        """Return the reason why a row cannot be used, or ''."""
        return (
            super().problem(row)
            or text_problem(row, ("context", "question"))
            or _answers_problem(row["answers"], row["context"])
        )

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, seq_len: int) -> list[Features]:
        """Tokenise questions with their contexts. A long context becomes several examples."""
        return [window.features for window in self.windows(rows, tokenizer, seq_len)]

    def windows(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, seq_len: int) -> list[ContextWindow]:
        """Tokenise as `encode` does, and keep the offsets that turn a predicted span back into text."""
        room = seq_len - tokenizer.num_special_tokens_to_add(pair=True)
        max_question = min(MAX_QUESTION, room // 2)
        encoding = tokenizer(
            _cut([row["question"].strip() for row in rows], tokenizer, max_question),
            [row["context"] for row in rows],
            truncation="only_second",
            max_length=seq_len,
            stride=min(STRIDE, (room - max_question) // 2),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=True,
        )
        windows = []
        for number, (feature, row) in enumerate(
            zip(inputs(encoding), encoding["overflow_to_sample_mapping"], strict=True)
        ):
            offsets = tuple(
                characters if part == 1 else None
                for characters, part in zip(
                    encoding["offset_mapping"][number], encoding.sequence_ids(number), strict=True
                )
            )
            start, end = _tokens(offsets, answer_of(rows[row])) or (0, 0)
            windows.append(ContextWindow({**feature, "start_positions": start, "end_positions": end}, row, offsets))
        return windows

    def synthetic(self, count: int, vocabulary: Vocabulary, seq_len: int, seed: int) -> list[Features]:
        """Make pairs of a short and a long text. The long one holds an answer of up to ten tokens."""
        random = synthetic.source(self.name, seed)
        examples = []
        for number in range(count):
            words = synthetic.ids(random, vocabulary, synthetic.length(random, number, seq_len) - 3)
            cut = random.randint(1, max(1, len(words) // 4))
            start = random.randrange(cut, len(words))
            end = random.randrange(start, min(len(words), start + MAX_SYNTHETIC_ANSWER))
            features = synthetic.pair(words[:cut], words[cut:], vocabulary)
            # Two special tokens stand before the context: at the very start, and after the question.
            examples.append({**features, "start_positions": start + 2, "end_positions": end + 2})
        return examples

    def collate(self, features: Sequence[Features], vocabulary: Vocabulary, *, pad_to: int | None = None) -> Batch:
        """Return `input_ids`, `attention_mask`, (`token_type_ids`) [B, L], `start_positions`, `end_positions` [B]."""
        return {**pad_inputs(features, vocabulary, pad_to), **stacked(features, "start_positions", "end_positions")}


def _questions(row: Row) -> Iterator[tuple[str, object]]:
    """Yield the rows within an article or a paragraph with their places, or the row itself. Broken ones are kept."""
    for place, paragraph in _parts(row, "paragraphs", "paragraph"):
        for inner, question in _parts(paragraph, "qas", "question"):
            found = question
            if isinstance(found, Mapping):
                context = {"context": paragraph.get("context")} if isinstance(paragraph, Mapping) and inner else {}
                found = {**context, **found}
                found |= {"answers": _gathered(found["answers"])} if isinstance(found.get("answers"), list) else {}
            yield f"{place}{inner}", found


def _parts(whole: object, key: str, name: str) -> Iterator[tuple[str, object]]:
    """Yield the items of the list `whole[key]` with their places; `whole` itself if there is no such list."""
    inner = whole.get(key) if isinstance(whole, Mapping) else None
    if isinstance(inner, list):
        yield from ((f", {name} {number}", part) for number, part in enumerate(inner, start=1))
    else:
        yield "", whole


def _gathered(answers: Sequence[object]) -> object:
    """Return a list of SQuAD's answer objects as two lists, of texts and of starts; anything else as it is."""
    if not all(isinstance(answer, Mapping) and {"text", "answer_start"} <= set(answer) for answer in answers):
        return answers
    return {name: [answer[name] for answer in answers] for name in ("text", "answer_start")}  # type: ignore[index] # mappings


def _cut(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> list[str]:
    """Cut texts after `max_tokens` tokens."""
    encoding = tokenizer(
        list(texts), add_special_tokens=False, truncation=True, max_length=max_tokens, return_offsets_mapping=True
    )
    return [
        text[: offsets[-1][1]] if offsets else text
        for text, offsets in zip(texts, encoding["offset_mapping"], strict=True)
    ]


def answer_of(row: Row) -> Characters | None:
    """Return the characters of the first answer, without blanks around it; None if the row has no answer."""
    answers = row["answers"]
    if not answers["text"] or not (text := answers["text"][0].strip()):
        return None
    start = answers["answer_start"][0] + answers["text"][0].index(text)
    return start, start + len(text)


def _tokens(offsets: Sequence[Characters | None], answer: Characters | None) -> tuple[int, int] | None:
    """Return the first and the last token of the answer; None if the window does not hold the whole answer."""
    context = [(token, characters) for token, characters in enumerate(offsets) if characters is not None]
    if answer is None or not context:
        return None
    start, end = answer
    if context[0][1][0] > start or context[-1][1][1] < end:
        return None
    inside = [token for token, characters in context if characters[0] < end and characters[1] > start]
    return (inside[0], inside[-1]) if inside else None


def _answers_problem(answers: object, context: str) -> str:
    if not isinstance(answers, Mapping) or not {"text", "answer_start"} <= set(answers):
        return f"answers must hold text and answer_start, as in SQuAD, not {shortened(answers)}"
    texts, starts = answers["text"], answers["answer_start"]
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        return "answers must hold two lists of one length, text and answer_start"
    for text, start in zip(texts, starts, strict=True):
        if not is_text(text) or isinstance(start, bool) or not isinstance(start, int):
            return f"answers must hold texts and whole numbers, not {shortened(text)} at {shortened(start)}"
        if start < 0 or context[start : start + len(text)] != text:
            return f"answer {shortened(text)} does not stand at character {shortened(start)} of the context"
    return ""


TASKS: tuple[Task, ...] = (
    SpanTask(
        name="qa",
        max_length=384,
        hub=HubSource(path="rajpurkar/squad"),
        summary="Which words of the context answer the question? Start and end of a span.",
    ),
)
