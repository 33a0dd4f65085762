"""The study of the gate: what it injects, given what a unit of work costs within a round."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pytest
from tools import gate_study

ROUND_S = {f"train_step[{name}-nli-bs8]": 0.010 for name in ("full", "head", "ia3", "lora", "oft", "prefix", "vera")}
UNIT_S = {"matmul": 8e-6, "clone": 1e-6, "loop": 1e-8, "sleep": 1.1e-6}


class _Study:
    """Stands for a project whose rounds and units of work take a fixed time."""

    def names(self) -> list[str]:
        return sorted(ROUND_S)

    def calibration(self, probes: Sequence[gate_study.Injection]) -> list[dict[str, Any]]:
        return [
            {"case": one.case, "kind": one.kind, "unit_s": UNIT_S[one.kind], "round_s": ROUND_S[one.case]}
            for one in probes
        ]


@pytest.fixture
def study() -> gate_study.Study:
    return cast("gate_study.Study", _Study())


def test_each_kind_and_size_is_injected_once_a_trial_and_never_into_the_reference(study: gate_study.Study) -> None:
    found = [*gate_study.batches(study, (0.03, 0.10), 2, together=5, seed=0)]
    together = [(one.kind, share) for batch in found for share, one in batch.values()]
    assert set(Counter(together).values()) == {2}
    assert len(together) == 2 * 4 * 2
    assert [len(batch) for batch in found] == [5, 5, 5, 1]
    for batch in found:
        assert all(name == one.case and "[head-" not in name for name, (_, one) in batch.items())


def test_a_slowdown_takes_its_share_of_a_round(study: gate_study.Study) -> None:
    (batch,) = gate_study.batches(study, (0.10,), 1, together=5, seed=0)
    for share, one in batch.values():
        assert one.times * UNIT_S[one.kind] / ROUND_S[one.case] == pytest.approx(share, rel=0.01)
