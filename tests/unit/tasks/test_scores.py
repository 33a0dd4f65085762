import pytest

from peftbench.config.choices import ANSWERS
from peftbench.tasks.scores import (
    READINGS,
    answer_scores,
    class_scores,
    entity_scores,
    last_number,
    normalize,
    word_f1,
)


def test_accuracy_and_macro_f1_by_hand() -> None:
    # Class 0: precision 2/3, recall 2/2, F1 0.8. Class 1: precision 1/1, recall 1/2, F1 2/3. Class 2: F1 1.
    scores = class_scores(predictions=[0, 0, 0, 1, 2], references=[0, 0, 1, 1, 2])
    assert scores == pytest.approx({"accuracy": 4 / 5, "macro_f1": (0.8 + 2 / 3 + 1) / 3})


def test_entities_count_only_whole() -> None:
    references = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG"]]
    predictions = [["B-PER", "O", "O", "B-LOC"], ["B-LOC", "B-ORG"]]
    # Four are predicted, three are true, two of them agree (LOC and ORG).
    assert entity_scores(predictions, references) == pytest.approx({"precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7})


def test_no_entity_predicted_scores_zero_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert entity_scores([["O"]], [["B-LOC"]]) == {"precision": 0, "recall": 0, "f1": 0}
    assert not recwarn.list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Queen's, tarts!", "queens tarts"),
        ("an apple a day", "apple day"),
        ("Theatre", "theatre"),
        ("10,000", "10000"),
        ("the", ""),
    ],
)
def test_answers_are_normalised_as_in_squad(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_word_f1_counts_repeated_words() -> None:
    assert word_f1("big big cat", "big cat sat") == pytest.approx(2 / 3)
    assert word_f1("dog", "cat") == 0
    assert word_f1("", "the") == 1
    assert word_f1("", "cat") == 0


def test_the_best_reference_counts() -> None:
    scores = answer_scores(["the cat", "no", ""], [["dog", "cat"], ["yes", "no way"], []])
    assert scores == pytest.approx({"exact_match": 2 / 3, "f1": (1 + 2 / 3 + 1) / 3})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("So 3 + 4 = 7 apples.\n#### 7", "7"),
        ("The answer is: $1,250.00.", "1250"),
        ("-3.50 degrees", "-3.5"),
        ("it is 10.", "10"),
        ("none at all", None),
    ],
)
def test_the_last_number_of_an_answer_is_what_gsm8k_compares(text: str, number: str | None) -> None:
    assert last_number(text) == number


def test_the_readings_are_those_that_the_option_names() -> None:
    assert tuple(READINGS) == ANSWERS
    assert READINGS["whole"](" neutral\n") == "neutral"
