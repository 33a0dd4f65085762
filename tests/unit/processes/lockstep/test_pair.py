from dataclasses import replace
from typing import cast

from peftbench.measure.time.clock import Timing
from peftbench.measure.time.rounds import RoundPlan
from peftbench.processes.lockstep.pair import Side, _pair_up
from peftbench.records.record import Record


class _Done:
    """A side that has no rounds, and calls the case otherwise than the parent does."""

    def ready(self) -> Record:
        return Record("bench_a.py::TestSmall::x[lora-nli-bs2]", "x", "lora", "nli", 2, 8, "unsupported", "not here")


def test_records_are_called_as_the_parent_calls_the_case() -> None:
    base, new = (cast("Side", _Done()) for _ in range(2))
    found = _pair_up(base, new, "x[lora-nli-bs2]", seed="")
    assert found.base is not None
    assert found.new is not None
    assert found.id == found.base.id == found.new.id == "x[lora-nli-bs2]"


class _Ready:
    """A side that has rounds."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def ready(self) -> RoundPlan:
        return RoundPlan(budget_s=1.0)

    def round(self, number: int) -> Timing:
        self.said.append(number)
        return Timing(1.0)

    def finish(self) -> Record:
        self.said.append("finish")
        return replace(_Done().ready(), status="ok", reason="")


def test_a_side_whose_other_has_no_rounds_runs_one_since_a_record_needs_it() -> None:
    ready = _Ready()
    found = _pair_up(cast("Side", ready), cast("Side", _Done()), "x", seed="")
    assert ready.said == [0, "finish"]
    assert found.rounds is None
    assert [record and record.status for record in (found.base, found.new)] == ["ok", "unsupported"]
