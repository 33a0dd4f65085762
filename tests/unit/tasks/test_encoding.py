"""Rows -> features with a tokenizer, -> tensors, for the tasks of whole texts: classification and multiple choice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from peftbench.tasks.base import Task, Vocabulary
from peftbench.tasks.choice import TASKS as CHOICE
from peftbench.tasks.classification import TASKS as CLASSIFICATION

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NLI, SENTIMENT, PARAPHRASE = CLASSIFICATION
(COPA,) = CHOICE

LONG = "the queen of hearts made some tarts all on a summer day"
PAIRS: list[dict[str, object]] = [
    {"premise": LONG, "hypothesis": "a day", "label": 2},
    {"premise": "tarts", "hypothesis": LONG, "label": "neutral"},
    {"premise": "some", "hypothesis": "", "label": "0"},
]
CHOICES: list[dict[str, object]] = [
    {"premise": "the queen made some tarts", "choice1": "tarts", "choice2": LONG, "question": "cause", "label": 1},
    {"premise": LONG, "choice1": "all", "choice2": "some", "question": "effect", "label": 0},
]


def test_pairs_read_as_the_tokenizer_writes_them(wordpiece: PreTrainedTokenizerFast) -> None:
    features = NLI.encode(PAIRS, wordpiece, 64)
    assert wordpiece.decode(features[0]["input_ids"]) == f"[CLS] {LONG} [SEP] a day [SEP]"
    assert [feature["labels"] for feature in features] == [2, 1, 0]
    separator = features[0]["input_ids"].index(wordpiece.sep_token_id)
    types = features[0]["token_type_ids"]
    assert types == [0] * (separator + 1) + [1] * (len(types) - separator - 1)


@pytest.mark.parametrize("tokenizer_name", ["wordpiece", "unigram"])
@pytest.mark.parametrize("seq_len", [8, 11, 16])
def test_of_a_long_pair_the_longer_text_is_cut(
    tokenizer_name: str, seq_len: int, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(tokenizer_name)
    for feature, row in zip(NLI.encode(PAIRS, tokenizer, seq_len), PAIRS, strict=True):
        assert len(feature["input_ids"]) <= seq_len
        shorter = min(str(row["premise"]), str(row["hypothesis"]), key=len)
        assert shorter in tokenizer.decode(feature["input_ids"], skip_special_tokens=True)


def test_single_texts_are_cut_at_the_end(wordpiece: PreTrainedTokenizerFast) -> None:
    (feature,) = SENTIMENT.encode([{"text": LONG, "label": "positive"}], wordpiece, 8)
    assert wordpiece.decode(feature["input_ids"]) == "[CLS] the queen of hearts made some [SEP]"
    assert feature["labels"] == 1
    assert set(feature["token_type_ids"]) == {0}


@pytest.mark.parametrize("pad_to", [None, 24])
def test_a_batch_is_padded_as_transformers_pads_it(
    wordpiece: PreTrainedTokenizerFast, bert_vocabulary: Vocabulary, pad_to: int | None
) -> None:
    features = NLI.encode(PAIRS, wordpiece, 20)
    theirs = wordpiece.pad(
        [{name: feature[name] for name in ("input_ids", "token_type_ids")} for feature in features],
        padding="max_length" if pad_to else True,
        max_length=pad_to,
        return_tensors="pt",
    )
    batch = NLI.collate(features, bert_vocabulary, pad_to=pad_to)
    assert batch.keys() == {*theirs, "labels"}
    for name, expected in theirs.items():
        assert batch[name].equal(expected), name
        assert batch[name].dtype == expected.dtype
    assert batch["labels"].tolist() == [2, 1, 0]


def test_models_without_segments_get_no_token_types(
    unigram: PreTrainedTokenizerFast, xlmr_vocabulary: Vocabulary
) -> None:
    features = NLI.encode(PAIRS, unigram, 24)
    batch = NLI.collate(features, xlmr_vocabulary, pad_to=24)
    assert batch.keys() == {"input_ids", "attention_mask", "labels"}
    lengths = [len(feature["input_ids"]) for feature in features]
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert all(
        row[length:].eq(xlmr_vocabulary.pad).all() for row, length in zip(batch["input_ids"], lengths, strict=True)
    )


def test_choices_are_an_axis_of_their_own(wordpiece: PreTrainedTokenizerFast, bert_vocabulary: Vocabulary) -> None:
    batch = COPA.collate(COPA.encode(CHOICES, wordpiece, 32), bert_vocabulary, pad_to=32)
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "input_ids": (2, 2, 32),
        "attention_mask": (2, 2, 32),
        "token_type_ids": (2, 2, 32),
        "labels": (2,),
    }
    assert batch["labels"].tolist() == [1, 0]
    for example, row in zip(batch["input_ids"], CHOICES, strict=True):
        for ids, choice in zip(example, ("choice1", "choice2"), strict=True):
            # "cause" and "effect" are spelt letter by letter, so texts are compared without blanks and marks.
            text = wordpiece.decode(ids, skip_special_tokens=True).replace(" ##", "").replace(" ", "")
            assert text == f"{row['premise']}{row['question']}{row[choice]}".replace(" ", "")


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        (NLI, {"premise": "a", "label": 0}, "has premise, hypothesis, label, and this one 'premise, label'"),
        (NLI, {"premise": "a", "hypothesis": None, "label": 0}, "lacks the field 'hypothesis'"),
        (NLI, {"premise": "a", "hypothesis": 7, "label": 0}, "hypothesis must be text, not 7"),
        (NLI, {"premise": "a", "hypothesis": "\ud800", "label": 0}, "hypothesis must be text"),
        (NLI, {"premise": "a", "hypothesis": "b", "label": 3}, "label is 3, not one of entailment, neutral"),
        (NLI, {"premise": "a", "hypothesis": "b", "label": -1}, "(or 0 to 2)"),
        (NLI, {"premise": "a", "hypothesis": "b", "label": True}, "label is True"),
        (NLI, {"premise": "a", "hypothesis": "b", "label": 1.5}, "label is 1.5"),
        (NLI, {"premise": "a", "hypothesis": "b", "label": [1]}, "label is [1]"),
        (SENTIMENT, {"text": "a", "label": "good"}, "label is 'good', not one of negative, positive"),
        (PARAPHRASE, {"sentence1": "a", "sentence2": "b"}, "lacks the field 'label'"),
        (COPA, {**CHOICES[0], "label": 2}, "label is 2, not one of choice1, choice2 (or 0 to 1)"),
        (COPA, {**CHOICES[0], "choice2": {}}, "choice2 must be text, not {}"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_why(task: Task, row: dict[str, object], message: str) -> None:
    assert message in task.problem(row)


def test_a_good_row_has_no_problem() -> None:
    assert [NLI.problem(row) for row in PAIRS] == ["", "", ""]
    assert [COPA.problem(row) for row in CHOICES] == ["", ""]


def test_other_classes_make_another_task() -> None:
    task = SENTIMENT.with_labels(["bad", "so-so", "good"])
    assert task.problem({"text": "tarts", "label": "so-so"}) == ""
    assert task.name == "sentiment"
    assert SENTIMENT.labels == ("negative", "positive")
    assert SENTIMENT.fitted([{"text": "tarts", "label": "so-so"}]) is SENTIMENT


def test_the_label_is_the_last_field_whatever_its_name(wordpiece: PreTrainedTokenizerFast) -> None:
    task = replace(SENTIMENT, name="topic", fields=("text", "topic"))
    row = {"text": LONG, "topic": "positive"}
    assert task.problem(row) == ""
    assert task.encode([row], wordpiece, 16)[0]["labels"] == 1
    assert task.problem({**row, "topic": "sports"}) == "topic is 'sports', not one of negative, positive (or 0 to 1)"
