from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from peftbench.tasks.base import Vocabulary
from peftbench.tasks.tokens import TASKS, TokenTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

(NER,) = TASKS

ROWS: list[dict[str, list[Any]]] = [
    {"tokens": ["Alice", "of", "Oxford", "made", "tarts"], "ner_tags": ["B-PER", "O", "B-LOC", "O", "O"]},
    {"tokens": ["queen", "of", "hearts"], "ner_tags": [1, 2, 2]},
    {"tokens": ["Ltd."], "ner_tags": ["I-ORG"]},
]


@pytest.mark.parametrize("tokenizer_name", ["wordpiece", "unigram"])
@pytest.mark.parametrize("seq_len", [8, 12, 40])
def test_the_first_token_of_each_word_has_its_tag_and_all_others_none(
    tokenizer_name: str, seq_len: int, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(tokenizer_name)
    for feature, row in zip(NER.encode(ROWS, tokenizer, seq_len), ROWS, strict=True):
        expected = []
        for word, tag in zip(row["tokens"], row["ner_tags"], strict=True):
            pieces = tokenizer.tokenize(word)
            expected += [tag if isinstance(tag, int) else NER.labels.index(str(tag))] + [-100] * (len(pieces) - 1)
        assert feature["labels"] == [-100, *expected[: seq_len - 2], -100]
        assert len(feature["input_ids"]) == len(feature["labels"]) <= seq_len


@pytest.mark.parametrize("add_prefix_space", [False, True])
def test_words_have_their_blank_where_a_tokenizer_tells_it_from_none(*, add_prefix_space: bool) -> None:
    from tokenizers import pre_tokenizers
    from transformers import RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "\u0120E", "\u0120EU", "EU", "re", "\u0120re"]
    merges = [("\u0120", "E"), ("\u0120E", "U"), ("E", "U"), ("r", "e"), ("\u0120", "re")]
    ids = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = RobertaTokenizer(vocab=ids, merges=merges, add_prefix_space=add_prefix_space)
    row = {"tokens": ["EU", "re", "EU", "", " re"], "ner_tags": ["B-ORG", "O", "B-LOC", "O", "O"]}
    assert isinstance(NER, TokenTask)
    (tagged,) = NER.tagged([row], tokenizer, 16)
    words = tokenizer.convert_ids_to_tokens(tagged.features["input_ids"])
    assert words == ["<s>", "\u0120EU", "\u0120re", "\u0120EU", "\u0120re", "</s>"]
    assert tagged.features["labels"] == [-100, 3, 0, 5, 0, -100]
    assert tagged.words == (0, 1, 2, 4)


def test_padding_has_no_tag(wordpiece: PreTrainedTokenizerFast, bert_vocabulary: Vocabulary) -> None:
    features = NER.encode(ROWS, wordpiece, 40)
    batch = NER.collate(features, bert_vocabulary, pad_to=40)
    assert batch["labels"].shape == (3, 40)
    assert batch["labels"][batch["attention_mask"] == 0].eq(-100).all()
    assert batch["labels"].ne(-100).sum(1).tolist() == [5, 3, 1]


def test_the_tags_of_other_data_become_the_classes() -> None:
    rows: list[dict[str, object]] = [
        {"tokens": ["a", "b"], "ner_tags": ["B-work", "O"]},
        {"ner_tags": ["I-corp"]},
        {"ner_tags": 3},
        {},
    ]
    task = NER.fitted(rows)
    assert task.labels == ("O", "B-corp", "I-corp", "B-work", "I-work")
    assert task.problem({"tokens": ["a"], "ner_tags": ["I-work"]}) == ""


@pytest.mark.parametrize("tags", [["O", "B-LOC"], [0, 3, 6], []])
def test_known_tags_leave_the_classes_as_they_are(tags: list[object]) -> None:
    assert NER.fitted([{"tokens": ["a"] * len(tags), "ner_tags": tags}]) is NER


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a"]}, "lacks the field 'ner_tags'"),
        ({"tokens": "a b", "ner_tags": ["O", "O"]}, "tokens must be a list of words, not 'a b'"),
        ({"tokens": [], "ner_tags": []}, "tokens must be a list of words, not []"),
        ({"tokens": ["a"], "ner_tags": "O"}, "ner_tags must be a list"),
        ({"tokens": ["a", "b"], "ner_tags": ["O"]}, "has 2 tokens but 1 ner_tags"),
        ({"tokens": ["a", 1], "ner_tags": ["O", "O"]}, "tokens must be words, not 1"),
        ({"tokens": ["a"], "ner_tags": ["PERSON"]}, "ner_tags is 'PERSON', not one of O, B-PER"),
        ({"tokens": ["a"], "ner_tags": [7]}, "(or 0 to 6)"),
        ({"tokens": ["a"], "ner_tags": [["O"]]}, "ner_tags is ['O']"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_why(row: dict[str, object], message: str) -> None:
    assert message in NER.problem(row)
