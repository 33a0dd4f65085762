import time

import pytest

from peftbench.measure.time.stopwatch import Stopwatch


def test_the_time_of_a_pass_is_added_up_even_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([10.0, 12.0, 20.0, 25.0, 30.0, 30.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(readings))
    watch = Stopwatch()
    assert (watch.seconds, watch.current) == ({}, "")
    with watch.during("time"):
        assert watch.current == "time"
    with pytest.raises(ZeroDivisionError), watch.during("counters"):
        raise ZeroDivisionError
    with watch.during("time"):
        pass
    assert watch.seconds == {"time": 2.5, "counters": 5.0}
    assert watch.current == "time"
