"""The study of the gate: what it injects, given what a unit of work costs within a round."""

from collections import Counter
from collections.abc import Sequence
from typing import cast

import pytest
from tools import gate_study

TIMES = {f"train_step[{name}-nli-bs8]": 0.010 for name in ("full", "head", "ia3", "lora", "oft", "prefix", "vera")}
ALONE_S = {"matmul": 1e-5, "clone": 2e-6, "loop": 1e-8, "sleep": 1e-6}
FELT = {"matmul": 0.8, "clone": 0.5, "loop": 1.0, "sleep": 1.1}


class _Study:
    """Stands for a project in which work takes another time within a round than alone."""

    def times(self) -> dict[str, float]:
        return TIMES

    def slowdowns(self, probes: Sequence[gate_study.Injection]) -> dict[str, float]:
        return {one.case: one.times * ALONE_S[one.kind] * FELT[one.kind] / TIMES[one.case] for one in probes}


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> gate_study.Study:
    monkeypatch.setattr(gate_study, "unit_s", ALONE_S.__getitem__)
    return cast("gate_study.Study", _Study())


def test_each_kind_and_size_is_injected_once_a_trial_and_never_into_the_reference(study: gate_study.Study) -> None:
    found = [*gate_study.batches(study, (0.03, 0.10), 2, together=5, seed=0)]
    together = [one for batch in found for one in batch]
    assert set(Counter((one.kind, one.share) for one in together).values()) == {2}
    assert len(together) == 2 * 4 * 2
    assert [len(batch) for batch in found] == [5, 5, 5, 1]
    for batch in found:
        assert len({one.case for one in batch}) == len(batch)
        assert not any("[head-" in one.case for one in batch)


def test_the_size_of_a_slowdown_is_what_the_case_feels(study: gate_study.Study) -> None:
    for one in (one for batch in gate_study.batches(study, (0.10,), 1, together=5, seed=0) for one in batch):
        felt_s = one.times * ALONE_S[one.kind] * FELT[one.kind]
        assert felt_s / TIMES[one.case] == pytest.approx(0.10, rel=0.01)
