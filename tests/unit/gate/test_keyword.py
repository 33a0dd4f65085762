from functools import partial

import pytest
from _pytest.mark.expression import Expression
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peftbench.errors import UserError
from peftbench.gate.keyword import matcher

IDS = ["train_step[lora-nli-bs8]", "train_step[dora-ner-bs1]", "inference[ia3-nli-bs8]"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("", [0, 1, 2]),
        ("lora", [0]),
        ("LORA or ia3", [0, 2]),
        ("train_step and not lora", [1]),
        ("not (lora or dora)", [2]),
        ("[ia3-nli", [2]),
        ("bs8 and nli or dora", [0, 1, 2]),
        ("not not lora", [0]),
    ],
)
def test_words_match_parts_of_an_id(expression: str, expected: list[int]) -> None:
    matches = matcher(expression)
    assert [place for place, name in enumerate(IDS) if matches(name)] == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("lora and", "-k 'lora and': column 9: expected a word, `not` or (, found the end"),
        ("lora dora", "column 6: expected `and`, `or` or the end, found 'dora'"),
        ("(lora", r"column 6: expected \), found the end"),
        ("lora(r=16)", r"column 5: expected `and`, `or` or the end, found '\('"),
        ("or", "column 1: expected a word, `not` or (, found 'or'"),
        ("a and =", "column 7: expected a word, `not` or (, found '='"),
        ("()", r"column 2: expected a word, `not` or (, found '\)'"),
    ],
)
def test_a_bad_expression_says_where(expression: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(,", r"\(,")):
        matcher(expression)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("(" * 5000 + "lora" + ")" * 5000, [0]),
        ("not " * 5000 + "lora", [0]),
        ("lora or " * 5000 + "dora", [0, 1]),
        ("not (" * 5001 + "lora" + ")" * 5001, [1, 2]),
    ],
)
def test_an_expression_can_be_as_deep_as_it_likes(expression: str, expected: list[int]) -> None:
    matches = matcher(expression)
    assert [place for place, name in enumerate(IDS) if matches(name)] == expected


def test_a_bad_expression_of_any_length_is_a_short_line() -> None:
    with pytest.raises(UserError, match=r"column 5001: expected a word, `not` or \(, found the end") as error:
        matcher("(" * 5000)
    assert len(str(error.value)) < 300


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["and", "or", "not", "(", ")", "lora", "nli", "bs8", "="]), min_size=1, max_size=8).map(
        " ".join
    )
)
@example("not lora and nli or bs8")
def test_it_agrees_with_pytest(expression: str) -> None:
    try:
        theirs = Expression.compile(expression)
    except SyntaxError:
        with pytest.raises(UserError):
            matcher(expression)
        return
    ours = matcher(expression)
    assert [ours(name) for name in IDS] == [theirs.evaluate(partial(_is_part, name)) for name in IDS]


def _is_part(name: str, word: str, /, **_: object) -> bool:
    return word in name
