import pytest
import torch

from peftbench.measure.trial import BATCHES, Mark, Trial


@pytest.mark.parametrize(
    ("chained", "done"),
    [(False, ["prepare 4"]), (True, ["prepare 3", "run 3", "prepare 4"])],
)
def test_a_round_that_depends_on_the_one_before_it_comes_after_it(*, chained: bool, done: list[str]) -> None:
    log: list[str] = []

    def run(number: int, mark: Mark) -> None:
        mark()
        log.append(f"run {number}")

    trial = Trial(torch.nn.Identity(), run, prepare=lambda number: log.append(f"prepare {number}"), chained=chained)
    trial.ready_after_previous(4)
    assert log == done


def test_what_needs_no_preparation_has_none_and_round_0_represents_nothing() -> None:
    trial = Trial(torch.nn.Identity(), lambda *_: None)
    trial.ready(0)
    trial.ready_after_previous(0)
    trial.close()
    assert trial.representative % BATCHES == 0 < trial.representative  # of the first batch
