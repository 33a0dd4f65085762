from typing import cast

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
