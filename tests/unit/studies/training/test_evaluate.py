from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from peftbench.devices.precision import Precision
from peftbench.errors import UserError
from peftbench.matrix.catalogue import Catalogue
from peftbench.studies.training.evaluate import (
    SCORES,
    Logits,
    _token_scores,
    encode_for_evaluation,
    evaluate,
    judged_by,
    length,
)
from peftbench.studies.training.task_data import TaskData
from peftbench.tasks.base import Features, Row
from peftbench.tasks.padding import IGNORED
from peftbench.tasks.span import ContextWindow, SpanTask
from peftbench.workloads.base import Workbench

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONTEXT = "the queen of hearts made some tarts all on a summer day"


def one_hot(ids: list[int], classes: int) -> np.ndarray[Any, Any]:
    return np.eye(classes)[ids]


def test_classes_are_those_of_the_highest_logit(catalogue: Catalogue, wordpiece: PreTrainedTokenizerFast) -> None:
    rows = [{"text": "day", "label": label} for label in (0, 1, 1, 1)]
    examples = encode_for_evaluation(catalogue.task("sentiment"), rows, wordpiece, 16, name="x")
    scores = examples.score([(logits,) for logits in one_hot([0, 1, 1, 0], 2)])
    assert scores == {"accuracy": 0.75, "macro_f1": pytest.approx((2 / 3 + 0.8) / 2)}


def test_tags_are_of_whole_words_and_words_that_were_cut_off_count(
    catalogue: Catalogue, wordpiece: PreTrainedTokenizerFast
) -> None:
    row: Row = {"tokens": ["queen", "zz", "on", "tarts"], "ner_tags": ["B-PER", "I-PER", "O", "B-LOC"]}
    task = catalogue.task("ner")

    def f1(seq_len: int) -> float:
        examples = encode_for_evaluation(task, [row], wordpiece, seq_len, name="x")
        labels = [label if label != IGNORED else 3 for label in examples.features[0]["labels"]]
        return examples.score([(one_hot(labels, len(task.labels)),)])["f1"]

    assert f1(32) == 1.0
    assert f1(5) == pytest.approx(2 / 3)  # [CLS] queen z ##z [SEP]: one of two entities is found, none is wrong


def test_words_without_a_token_do_not_shift_the_tags(catalogue: Catalogue, wordpiece: PreTrainedTokenizerFast) -> None:
    row: Row = {"tokens": ["on", "\ufe0f", "queen", "tarts"], "ner_tags": ["O", "O", "B-PER", "I-PER"]}
    task = catalogue.task("ner")
    examples = encode_for_evaluation(task, [row], wordpiece, 32, name="x")
    labels = examples.features[0]["labels"]
    assert labels == [IGNORED, 0, 1, 2, IGNORED]  # the normaliser takes the lone variation selector away
    perfect = one_hot([0, 0, 1, 2, 0], len(task.labels))
    assert examples.score([(perfect,)])["f1"] == 1.0
    lost: Row = {"tokens": ["queen", "\ufe0f", "tarts"], "ner_tags": ["B-PER", "I-PER", "I-PER"]}
    examples = encode_for_evaluation(task, [lost], wordpiece, 32, name="x")
    assert examples.score([(one_hot([0, 1, 2, 0], len(task.labels)),)])["f1"] == 0.0  # the middle of it was not found


def pointing(windows: Sequence[ContextWindow], first: str, last: str) -> list[Logits]:
    """Point at the first token of `first` and the last of `last`, and more strongly at places that cannot be right."""
    found: list[Logits] = []
    for window in windows:
        starts, ends = np.zeros(len(window.offsets)), np.zeros(len(window.offsets))
        starts[0] = ends[0] = 50.0  # no token of the context
        for token, characters in enumerate(window.offsets):
            if characters and CONTEXT[slice(*characters)] == first:
                starts[token] = 9.0
            if characters and CONTEXT[slice(*characters)] == last:
                ends[token] = 9.0
        found.append((starts, ends))
    return found


@pytest.mark.parametrize("seq_len", [32, 14])
def test_an_answer_is_the_best_span_of_the_context_over_all_windows(
    catalogue: Catalogue, wordpiece: PreTrainedTokenizerFast, seq_len: int
) -> None:
    task = catalogue.task("qa")
    assert isinstance(task, SpanTask)
    answers = {"text": ["some tarts"], "answer_start": [CONTEXT.index("some tarts")]}
    row: Row = {"context": CONTEXT, "question": "queen", "answers": answers}
    examples = encode_for_evaluation(task, [row], wordpiece, seq_len, name="x")
    assert (len(examples.features) > 1) == (seq_len == 14)
    windows = task.windows([row], wordpiece, seq_len)
    assert examples.score(pointing(windows, "some", "tarts")) == {"exact_match": 1.0, "f1": 1.0}
    assert examples.score(pointing(windows, "made", "tarts")) == {"exact_match": 0.0, "f1": pytest.approx(0.8)}
    assert examples.score(pointing(windows, "tarts", "some"))["exact_match"] == 0.0


@pytest.mark.parametrize("empty", [{"text": [], "answer_start": []}, {"text": [""], "answer_start": [0]}])
@pytest.mark.parametrize("seq_len", [32, 14])
def test_a_question_without_an_answer_is_answered_by_none(
    catalogue: Catalogue, wordpiece: PreTrainedTokenizerFast, empty: dict[str, Any], seq_len: int
) -> None:
    task = catalogue.task("qa")
    assert isinstance(task, SpanTask)
    known = {"text": ["some tarts"], "answer_start": [CONTEXT.index("some tarts")]}
    rows: list[Row] = [{"context": CONTEXT, "question": "queen", "answers": answers} for answers in (known, empty)]

    def exact(rows: list[Row], *nothing: float) -> float:
        """Score first tokens with `nothing`, row by row."""
        windows = task.windows(rows, wordpiece, seq_len)
        said = pointing(windows, "some", "tarts")
        for window, (starts, ends) in zip(windows, said, strict=True):
            starts[0] = ends[0] = nothing[window.row] / 2
        return encode_for_evaluation(task, rows, wordpiece, seq_len, name="x").score(said)["exact_match"]

    assert exact(rows, 17.0, 19.0) == 1.0  # the span has 18
    assert exact(rows, 19.0, 19.0) == 0.5
    assert exact(rows, 17.0, 17.0) == 0.5
    assert exact(rows[:1], 19.0) == 1.0  # in a set where every question has its answer
    with pytest.raises(ValueError, match="shorter"):  # a window without a prediction
        encode_for_evaluation(task, rows, wordpiece, seq_len, name="x").score(
            pointing(task.windows(rows, wordpiece, seq_len), "some", "tarts")[:-1]
        )


def test_tags_of_a_task_that_knows_no_words_are_those_of_the_tokens_with_a_label() -> None:
    features: list[Features] = [{"labels": [IGNORED, 0, 1, 2, IGNORED]}, {"labels": [IGNORED, 1, IGNORED]}]
    perfect = [(one_hot([0, 0, 1, 2, 0], 3),), (one_hot([0, 1, 0], 3),)]
    assert _token_scores(["O", "B-X", "I-X"], features, perfect) == {"f1": 1.0, "precision": 1.0, "recall": 1.0}
    half = [perfect[0], (one_hot([1, 0, 1], 3),)]
    assert _token_scores(["O", "B-X", "I-X"], features, half)["recall"] == 0.5


def test_the_length_of_several_sequences_is_that_of_the_longest() -> None:
    lengths = [length({"input_ids": ids}) for ids in ([1, 2], [[1], [1, 2, 3], [1, 2]], [])]
    assert lengths == [2, 3, 0]


def test_every_task_is_judged_by_a_score_that_it_has(catalogue: Catalogue) -> None:
    for task in catalogue.tasks.values():
        assert judged_by(task, None) == task.metric == SCORES[task.head][0]
    assert judged_by(catalogue.task("qa"), "exact_match") == "exact_match"
    with pytest.raises(UserError, match=r"unknown metric of task 'ner': 'accuracy'.*known: f1, precision, recall"):
        judged_by(catalogue.task("ner"), "accuracy")


def test_evaluation_is_in_the_order_of_the_examples_and_leaves_the_model_as_it_was(
    open_bench: Callable[..., Workbench],
) -> None:
    backend = open_bench().backend
    task_data = TaskData.load(backend, "nli")
    model: Any = backend.new_model(task_data.task, 0)
    model.train()
    seen: list[Logits] = []

    def keep(predictions: Sequence[Logits]) -> dict[str, float]:
        seen.extend(predictions)
        return {}

    examples = replace(task_data.validation, score=keep)
    evaluate(model, examples, collate=task_data.collate, precision=Precision())
    assert model.training
    model.eval()
    for features, (logits,) in zip(examples.features, seen, strict=True):
        alone = model(**task_data.collate([features])).logits.detach().numpy()[0]
        np.testing.assert_allclose(logits, alone, atol=1e-5)
