"""The default matrix on CUDA, and how long it is said to take."""

import pytest

from peftbench.config.settings import Settings
from peftbench.matrix.catalogue import Catalogue
from peftbench.plugin.asked import cases_of
from peftbench.plugin.forecast import announcement, expected_s
from peftbench.plugin.marks import CaseMark
from peftbench.run.passes import CUDA_BUDGET_S


def test_the_default_matrix_on_cuda_is_said_to_end_within_ten_minutes() -> None:
    catalogue = Catalogue.load()
    settings = Settings(device="cuda")
    cases = [
        case for name in ("train_step", "inference") for case in cases_of(CaseMark(workload=name), settings, catalogue)
    ]
    assert {case.task for case in cases} == {"nli", "ner"}
    assert {case.batch_size for case in cases} == {8, 32}
    assert len(cases) == 2 * 12 * 2 * 2
    seconds = expected_s(cases=len(cases), groups=4, proofs=24, budget_s=CUDA_BUDGET_S, energy=True)
    assert seconds <= 600
    assert announcement(seconds, cases=96, device="cuda:0").startswith("96 cases on cuda:0: about 10 minutes")
    assert announcement(20, cases=1, device="cuda:0").startswith("1 case on cuda:0: about 1 minute,")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_preset_of_a_language_model_is_measured_on_the_task_that_it_is_meant_for(device: str) -> None:
    settings = Settings(device=device, model="llama-3.2-3b")
    cases = cases_of(CaseMark(workload="train_step"), settings, Catalogue.load())
    assert {case.task for case in cases} == {"sft"}


@pytest.mark.parametrize("given", [{"tasks": ("qa",)}, {"batch_sizes": (1,)}])
def test_what_is_named_is_measured_on_cuda_too(given: dict[str, object]) -> None:
    catalogue = Catalogue.load()
    cases = cases_of(CaseMark(workload="train_step"), Settings(device="cuda", **given), catalogue)  # type: ignore[arg-type]
    (name,) = given
    assert {case.task if name == "tasks" else case.batch_size for case in cases} == {*given[name]}  # type: ignore[misc]
    whole = cases_of(CaseMark(workload="train_step"), Settings(device="cpu"), catalogue)
    assert {case.batch_size for case in whole} == {1, 8}
    assert len({case.task for case in whole}) == sum(task.default for task in catalogue.tasks.values())
