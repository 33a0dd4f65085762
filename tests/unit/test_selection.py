import pytest

from peftbench.selection import Selection

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
    ],
)
def test_a_case_is_covered_unless_something_leaves_it_out(selection: Selection, *, covered: bool) -> None:
    assert selection.covers(LORA) is covered
