"""The predictions of a model for a data set, and their scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import unknown
from peftbench.studies.training.completions import Questions, completion_scores
from peftbench.tasks import scores as metrics
from peftbench.tasks.base import Batch, Features, Head, Row, Task, Vocabulary
from peftbench.tasks.causal import CausalTask
from peftbench.tasks.fields import class_id
from peftbench.tasks.padding import IGNORED
from peftbench.tasks.span import SpanTask, answer_of
from peftbench.tasks.tokens import TokenTask
from peftbench.workloads.step import without_labels

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerFast

    from peftbench.devices.precision import Precision
    from peftbench.tasks.span import ContextWindow
    from peftbench.tasks.tokens import Tagged

Logits = tuple["np.ndarray[Any, Any]", ...]
"""Logits of one example: [classes], [tokens, classes], or two of [tokens] (start and end of an answer).

The tokens include the padding of its batch.
"""

EXACT_MATCH: Final = "exact_match"
SCORES: Final[Mapping[Head, tuple[str, ...]]] = {
    Head.SEQUENCE_CLASSIFICATION: ("accuracy", "macro_f1"),
    Head.MULTIPLE_CHOICE: ("accuracy", "macro_f1"),
    Head.TOKEN_CLASSIFICATION: ("f1", "precision", "recall"),
    Head.QUESTION_ANSWERING: ("f1", EXACT_MATCH),
    Head.CAUSAL_LM: ("token_accuracy", EXACT_MATCH),
}
LOSSES: Final[Mapping[str, str]] = {"completion_loss": "nat", "perplexity": "1"}
"""Scores of which less is better -> unit."""
BATCH_SIZE: Final = 64
MAX_ANSWER: Final = 30
"""Largest length of an answer in tokens, as in BERT's SQuAD code."""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Encoded examples, and the function that scores predictions for them."""

    name: str
    features: Sequence[Features]
    score: Callable[[Sequence[Logits]], dict[str, float]]
    """Returns score by name, given the logits of each example in order."""
    streamed: Callable[[torch.nn.Module, Callable[[Sequence[Features]], Batch]], dict[str, float]] | None = None
    """Scores a model in evaluation mode itself, given a function that makes batches: where all logits are too many."""


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """How the prompts of a language model are answered, and its answers compared."""

    reading: str
    """One of `choices.ANSWERS`."""
    most_tokens: int | None = None
    """Most tokens of an answer; None: those of the longest expected one."""
    positions: int | None = None
    """The longest sequence that the model takes, in tokens, where it says one."""


def judged_by(task: Task, metric: str | None) -> str:
    """Return the name of the score that is the quality of a task: `metric`, or the task's default.

    Raises:
        UserError: the task has no such score.
    """
    chosen = metric or task.metric
    if chosen not in SCORES[task.head]:
        raise unknown(f"metric of task {task.name!r}:", chosen, SCORES[task.head])
    return chosen


def encode_for_evaluation(
    task: Task,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerFast,
    seq_len: int,
    *,
    name: str,
    answers: AnswerPlan | None = None,
) -> EvaluationSet:
    """Encode rows, and keep with them what is needed to score their predictions.

    Args:
        task: Fitted to the data.
        rows: Of the set.
        tokenizer: The model's own.
        seq_len: Most tokens of an example.
        name: Of the set.
        answers: How a language model's prompts are answered; None: they are not.

    Raises:
        RowError: a row cannot be tokenised, or has no answer that could be compared; says which.
    """
    if isinstance(task, CausalTask):
        exchanges = task.exchanges(rows, tokenizer, seq_len)
        questions = None
        if answers:
            reading, most = answers.reading, answers.most_tokens
            questions = Questions.of(exchanges, tokenizer, reading, most, positions=answers.positions)
        features = [one.features for one in exchanges]
        return EvaluationSet(name, features, _no_logits, partial(completion_scores, features, questions))
    if isinstance(task, SpanTask):
        windows = task.windows(rows, tokenizer, seq_len)
        return EvaluationSet(name, [window.features for window in windows], partial(_answers, rows, windows))
    if isinstance(task, TokenTask):
        tagged = task.tagged(rows, tokenizer, seq_len)
        tags = [_row_tags(task, row) for row in rows]
        return EvaluationSet(name, [one.features for one in tagged], partial(_row_scores, task.labels, tagged, tags))
    features = task.encode(rows, tokenizer, seq_len)
    if task.head == Head.TOKEN_CLASSIFICATION:
        return EvaluationSet(name, features, partial(_token_scores, task.labels, features))
    return EvaluationSet(name, features, partial(_classes, [feature["labels"] for feature in features]))


def evaluate(
    model: torch.nn.Module,
    examples: EvaluationSet,
    *,
    collate: Callable[[Sequence[Features]], Batch],
    precision: Precision,
) -> dict[str, float]:
    """Return the scores of a model in evaluation mode, by name. The mode of before is put back.

    Args:
        model: A model with its task head.
        examples: The examples to predict. Examples of similar length share a batch.
        collate: Makes a batch of examples, on the model's device.
        precision: How the model computes.
    """
    if examples.streamed is not None:
        with _evaluating(model, precision):
            return examples.streamed(model, collate)
    order = sorted(range(len(examples.features)), key=lambda index: length(examples.features[index]))
    predictions: dict[int, Logits] = {}
    with _evaluating(model, precision):
        for at in range(0, len(order), BATCH_SIZE):
            chosen = order[at : at + BATCH_SIZE]
            batch = collate([examples.features[index] for index in chosen])
            outputs = _arrays(model(**without_labels(batch)))
            for place, index in enumerate(chosen):
                predictions[index] = tuple(array[place] for array in outputs)
    return examples.score([predictions[index] for index in range(len(order))])


@contextmanager
def _evaluating(model: torch.nn.Module, precision: Precision) -> Iterator[None]:
    import torch

    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.inference_mode(), precision.forward_context(device):
            yield
    finally:
        model.train(training)


def collator(
    task: Task, vocabulary: Vocabulary, device: torch.device, *, pad_to: int | None = None
) -> Callable[[Sequence[Features]], Batch]:
    """Return a function that makes a batch of examples on the device, padded to the longest of them or to `pad_to`."""

    def collate(features: Sequence[Features]) -> Batch:
        batch = task.collate(features, vocabulary, pad_to=pad_to)
        return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}

    return collate


def length(features: Features) -> int:
    """Return the number of tokens of an example; if it has several sequences, of the longest."""
    ids = features["input_ids"]
    return max(map(len, ids)) if ids and isinstance(ids[0], list) else len(ids)


def _no_logits(predictions: Sequence[Logits]) -> dict[str, float]:
    raise NotImplementedError("a language model's completions are scored batch by batch")


def _arrays(output: Any) -> tuple[np.ndarray[Any, Any], ...]:  # noqa: ANN401 - an output of transformers
    names = ("start_logits", "end_logits") if "start_logits" in output else ("logits",)
    return tuple(output[name].float().cpu().numpy() for name in names)


def _classes(references: Sequence[int], predictions: Sequence[Logits]) -> dict[str, float]:
    return metrics.class_scores([int(logits.argmax()) for (logits,) in predictions], references)


def _row_scores(
    labels: Sequence[str], tagged: Sequence[Tagged], tags: Sequence[Sequence[str]], predictions: Sequence[Logits]
) -> dict[str, float]:
    """Score the tags of whole words. A word that was cut off, or has no token, counts as predicted O."""
    predicted = []
    for one, known, (logits,) in zip(tagged, tags, predictions, strict=True):
        found = dict(zip(one.words, _predicted(labels, one.features, logits), strict=True))
        predicted.append([found.get(word, "O") for word in range(len(known))])
    return metrics.entity_scores(predicted, tags)


def _token_scores(
    labels: Sequence[str], features: Sequence[Features], predictions: Sequence[Logits]
) -> dict[str, float]:
    """Score the tags of the tokens that have a label."""
    true = [[labels[label] for label in feature["labels"] if label != IGNORED] for feature in features]
    found = [_predicted(labels, feature, logits) for feature, (logits,) in zip(features, predictions, strict=True)]
    return metrics.entity_scores(found, true)


def _predicted(labels: Sequence[str], features: Features, logits: np.ndarray[Any, Any]) -> list[str]:
    """Return the predicted tag of each token that has a label."""
    places = [place for place, label in enumerate(features["labels"]) if label != IGNORED]
    return [labels[int(logits[place].argmax())] for place in places]


def _row_tags(task: TokenTask, row: Row) -> list[str]:
    ids = (class_id(tag, task.labels) for tag in row["ner_tags"])
    return [task.labels[number] for number in ids if number is not None]


def _answers(rows: Sequence[Row], windows: Sequence[ContextWindow], predictions: Sequence[Logits]) -> dict[str, float]:
    """Score the best span of each row. If some rows have no answer, an empty one that scores higher wins (SQuAD 2)."""
    abstains = any(answer_of(row) is None for row in rows)
    best: dict[int, tuple[float, str]] = {}
    nothing: dict[int, float] = {}
    for window, (starts, ends) in zip(windows, predictions, strict=True):
        # Training labels the first token as start and end where a window does not hold the answer.
        nothing[window.row] = min(float(starts[0] + ends[0]), nothing.get(window.row, math.inf))
        found = _best_span(window, starts, ends)
        if found and (window.row not in best or found[0] > best[window.row][0]):
            score, first, last = found
            best[window.row] = score, rows[window.row]["context"][first:last]
    answers = [
        best[row][1] if row in best and not (abstains and nothing[row] > best[row][0]) else ""
        for row in range(len(rows))
    ]
    return metrics.answer_scores(answers, [row["answers"]["text"] for row in rows])


def _best_span(
    window: ContextWindow, starts: np.ndarray[Any, Any], ends: np.ndarray[Any, Any]
) -> tuple[float, int, int] | None:
    """Return score, first character and end (exclusive) of the best span of context tokens; None if there are none."""
    import numpy as np

    tokens = [token for token, characters in enumerate(window.offsets) if characters is not None]
    if not tokens:
        return None
    scores = starts[tokens][:, None] + ends[tokens][None, :]
    places = np.arange(len(tokens))
    lengths = places[None, :] - places[:, None]
    scores = np.where((lengths >= 0) & (lengths < MAX_ANSWER), scores, -np.inf)
    first, last = np.unravel_index(int(scores.argmax()), scores.shape)
    start, end = window.offsets[tokens[first]], window.offsets[tokens[last]]
    assert start is not None  # noqa: S101 - only tokens with offsets are chosen
    assert end is not None  # noqa: S101
    return float(scores[first, last]), start[0], end[1]
