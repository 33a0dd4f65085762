from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftbench.tasks.base import Vocabulary
from peftbench.tasks.span import TASKS, SpanTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

(QA,) = (task for task in TASKS if isinstance(task, SpanTask))

CONTEXT = "The queen of hearts, she made some tarts, all on a summer day."


def row(context: str, answer: str, question: str = "what?") -> dict[str, Any]:
    return {
        "context": context,
        "question": question,
        "answers": {"text": [answer], "answer_start": [context.index(answer)]},
    }


def test_the_span_is_the_answer(wordpiece: PreTrainedTokenizerFast) -> None:
    (window,) = QA.windows([row(CONTEXT, "some tarts")], wordpiece, 64)
    ids = window.features["input_ids"]
    start, end = window.features["start_positions"], window.features["end_positions"]
    assert wordpiece.decode(ids[start : end + 1]) == "some tarts"
    assert window.offsets[start] == (CONTEXT.index("some"), CONTEXT.index("some") + 4)


def test_blanks_around_an_answer_do_not_count(wordpiece: PreTrainedTokenizerFast) -> None:
    (window,) = QA.windows([row(CONTEXT, " made some ")], wordpiece, 64)
    assert wordpiece.decode(window.features["input_ids"][window.features["start_positions"] :][:2]) == "made some"


def test_an_answer_that_cuts_words_takes_them_whole(unigram: PreTrainedTokenizerFast) -> None:
    (window,) = QA.windows([row("some tarts all day", "arts al")], unigram, 64)
    ids = window.features["input_ids"][window.features["start_positions"] : window.features["end_positions"] + 1]
    assert unigram.decode(ids).strip() == "tarts all"


@pytest.mark.parametrize("answers", [{"text": [], "answer_start": []}, {"text": [""], "answer_start": [0]}])
def test_a_question_without_an_answer_points_at_the_first_token(
    wordpiece: PreTrainedTokenizerFast, answers: dict[str, Any]
) -> None:
    (feature,) = QA.encode([{"context": CONTEXT, "question": "what?", "answers": answers}], wordpiece, 64)
    assert (feature["start_positions"], feature["end_positions"]) == (0, 0)


words = st.sampled_from(["the", "queen", "of", "hearts", "tarts", "oysters", "x1", "made,"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seq_len=st.integers(10, 80), tokenizer_name=st.sampled_from(["wordpiece", "unigram"]))
def test_windows_cover_the_context_and_point_at_the_answer(
    request: pytest.FixtureRequest, data: st.DataObject, seq_len: int, tokenizer_name: str
) -> None:
    tokenizer = request.getfixturevalue(tokenizer_name)
    texts = data.draw(st.lists(words, min_size=1, max_size=60))
    first = data.draw(st.integers(0, len(texts) - 1))
    last = data.draw(st.integers(first, min(len(texts) - 1, first + 5)))
    context, answer = " ".join(texts), " ".join(texts[first : last + 1])
    start = len(" ".join(texts[:first])) + (first > 0)
    question = " ".join(data.draw(st.lists(words, max_size=40)))
    example = {"context": context, "question": question, "answers": {"text": [answer], "answer_start": [start]}}

    windows = QA.windows([example], tokenizer, seq_len)

    covered: set[int] = set()
    for window in windows:
        assert len(window.features["input_ids"]) == len(window.offsets) <= seq_len
        inside = {i for span in window.offsets if span for i in range(*span)}
        covered |= inside
        first_token, last_token = window.features["start_positions"], window.features["end_positions"]
        letters = {start + i for i, letter in enumerate(answer) if letter != " "}
        if not letters <= inside:
            assert (first_token, last_token) == (0, 0)
            continue
        begin, end = window.offsets[first_token], window.offsets[last_token]
        assert begin
        assert end
        assert context[begin[0] : end[1]].strip() == answer
    assert {i for i, letter in enumerate(context) if letter != " "} <= covered


def test_windows_know_their_row_and_overlap(wordpiece: PreTrainedTokenizerFast, bert_vocabulary: Vocabulary) -> None:
    rows = [row(CONTEXT, "tarts"), row("a day", "day")]
    windows = QA.windows(rows, wordpiece, 16)
    assert [window.row for window in windows] == sorted(window.row for window in windows)
    assert {window.row for window in windows} == {0, 1}
    neighbours = [set(filter(None, window.offsets)) for window in windows if window.row == 0]
    assert len(neighbours) > 1
    assert all(left & right for left, right in pairwise(neighbours))
    features = QA.encode(rows, wordpiece, 16)
    assert features == [window.features for window in windows]
    batch = QA.collate(features, bert_vocabulary, pad_to=16)
    assert batch["start_positions"].tolist() == [feature["start_positions"] for feature in features]
    assert batch["end_positions"].shape == (len(features),)
    assert batch["input_ids"].shape == (len(features), 16)


def test_a_long_context_has_the_stride_of_the_paper(wordpiece: PreTrainedTokenizerFast) -> None:
    windows = QA.windows([row("the queen " * 400, "queen")], wordpiece, 384)
    first, second = (list(filter(None, window.offsets)) for window in windows[:2])
    assert len(set(first) & set(second)) == 128


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": None}, "lacks the field 'answers'"),
        ({"context": 1}, "context must be text, not 1"),
        ({"answers": ["tarts"]}, "answers must hold text and answer_start"),
        ({"answers": {"text": "tarts", "answer_start": 3}}, "two lists of one length"),
        ({"answers": {"text": ["tarts"], "answer_start": []}}, "two lists of one length"),
        ({"answers": {"text": ["tarts"], "answer_start": ["3"]}}, "whole numbers, not 'tarts' at '3'"),
        ({"answers": {"text": ["tarts"], "answer_start": [3]}}, "'tarts' does not stand at character 3"),
        ({"answers": {"text": ["."], "answer_start": [-1]}}, "does not stand at character -1"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_why(change: dict[str, Any], message: str) -> None:
    assert message in QA.problem({**row(CONTEXT, "tarts"), **change})


def test_a_good_row_has_no_problem() -> None:
    assert QA.problem(row(CONTEXT, "tarts")) == ""
