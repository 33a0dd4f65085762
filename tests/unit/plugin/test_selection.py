import pytest

from peftbench.plugin.selection import Selection

LORA = "train_step[lora-nli-bs2]"


@pytest.mark.parametrize(
    ("selection", "covered"),
    [
        (Selection(), True),
        (Selection(deselected=frozenset({LORA})), False),
        (Selection(dropped=frozenset({"train_step"})), False),
        (Selection(functions=frozenset({"inference"})), False),
        (Selection(functions=frozenset({"train_step"}), methods=frozenset({"lora"})), True),
        (Selection(methods=frozenset({"full", "lora(r=4)"})), False),
        (Selection(tasks=frozenset({"ner", "nli"})), True),
        (Selection(tasks=frozenset({"ner"})), False),
        (Selection(batch_sizes=frozenset({12})), False),
        (Selection(batch_sizes=frozenset({2})), True),
        (Selection(functions=frozenset({"inference"}), run=frozenset({LORA})), True),
        (Selection(methods=frozenset({"full"}), run=frozenset({LORA})), True),
        (Selection(functions=frozenset(), run=frozenset({"train_step[full-nli-bs2]"})), False),
    ],
)
def test_a_case_is_covered_unless_something_leaves_it_out(selection: Selection, *, covered: bool) -> None:
    assert selection.covers(LORA) is covered


def test_a_method_is_not_another_whose_name_begins_with_its_own() -> None:
    selection = Selection(methods=frozenset({"lora", "ia3(x=1)"}), known_methods=frozenset({"lora", "lora-fa", "ia3"}))
    asked = ["train_step[lora-nli-bs2]", "train_step[ia3(x=1)-nli-bs2]", "mine[3-lora-nli-bs2]"]
    others = ["train_step[lora-fa-nli-bs2]", "train_step[ia3-nli-bs2]", "train_step[gone-nli-bs2]"]
    assert [selection.covers(name) for name in asked] == [True] * 3
    assert [selection.covers(name) for name in others] == [False] * 3


def test_a_batch_size_is_found_before_what_a_study_or_a_test_adds() -> None:
    selection = Selection(batch_sizes=frozenset({8}))
    assert selection.covers("mine[lora-nli-bs8-2]")
    assert selection.covers("convergence[lora-nli-bs8-seed0-lr3e-05]")
    assert not selection.covers("convergence[lora-nli-bs80-seed8-lr3e-05]")
