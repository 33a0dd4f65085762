from hypothesis import given
from hypothesis import strategies as st

from peftbench.records.ids import Case, CaseId, MethodSpec, group_name, joint_task, task_names

METHODS = ("full", "lora", "lora-fa", "houlsby", "houlsby-parallel", "lora(r=4)")
TASKS = ("nli", "ner", "my-task", "nli+ner")

cases = st.builds(
    Case,
    st.sampled_from([MethodSpec("lora", (("r", 4),)), *map(MethodSpec, METHODS[:-1])]),
    st.sampled_from(TASKS),
    st.integers(1, 999),
    st.sampled_from([(), (("seed", 0), ("lr", 3e-5)), (("by", "models"), ("n", 8))]),
)


@given(cases, st.sampled_from(["{}", "before-{}", "{}-after"]))
def test_an_id_is_taken_apart_as_it_was_written_whatever_a_test_adds(case: Case, parameters: str) -> None:
    found = CaseId(f"benches/bench_all.py::train_step[{parameters.format(case.id)}]")
    assert found.function == "benches/bench_all.py::train_step"
    assert found.test == f"train_step[{parameters.format(case.id)}]"
    assert found.method_among(METHODS) == str(case.method)
    assert found.is_of_task(case.task)
    assert found.is_of_batch_size(case.batch_size)
    assert not found.is_of_batch_size(case.batch_size * 10)


@given(cases.filter(lambda case: not case.variant), st.sampled_from(["", "7", "-1", "lora-2"]))
def test_what_a_test_varies_itself_is_what_is_left_of_its_id(case: Case, own: str) -> None:
    for text in (f"{own}-{case.id}", f"{case.id}-{own}") if own else (case.id,):
        assert CaseId(f"hidden[{text}]").own_parameters(case.id) == own
    assert CaseId(f"hidden[{case.id}-1]").own_parameters(f"{case.id}0") == ""


def test_a_task_is_not_another_that_ends_like_it() -> None:
    assert not CaseId("f[lora-ner-bs2]").is_of_task("nli")
    assert CaseId("f[lora-nli-bs2]").method_among(["full"]) == ""


def test_tasks_that_are_joined_can_be_parted() -> None:
    assert task_names(joint_task(["nli", "ner"])) == ("nli", "ner")
    assert Case(MethodSpec("mtl"), "nli+ner", 8).tasks == ("nli", "ner")
    assert group_name(joint_task(["nli", "ner"]), 8) == Case(MethodSpec("mtl"), "nli+ner", 8).group == "nli+ner-bs8"


def test_what_a_study_varies_is_read_by_name() -> None:
    case = Case(MethodSpec("lora"), "nli", 32).with_variant(seed=3, lr=1e-4)
    assert (case.seed, case.learning_rate, case.varied("lr")) == (3, 1e-4, 1e-4)
