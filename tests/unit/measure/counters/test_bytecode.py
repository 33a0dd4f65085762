from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from peftbench.measure.counters.bytecode import PythonWork, trace


def loop(turns: int) -> int:
    total = 0
    for turn in range(turns):
        total += turn
    return total


def generator() -> Iterator[int]:
    yield 1
    yield 2


def test_bytecodes_grow_with_the_turns_of_a_loop_and_nothing_else() -> None:
    counts = [trace(lambda n=turns: loop(n)).bytecodes for turns in (10, 11, 12, 1010)]  # type: ignore[misc]
    per_turn = counts[1] - counts[0]
    assert 3 <= per_turn <= 10
    assert counts[2] - counts[0] == 2 * per_turn
    assert counts[3] - counts[0] == 1000 * per_turn


def test_calls_are_functions_entered_and_generators_resumed() -> None:
    assert trace(lambda: loop(3)).calls == 2
    assert trace(lambda: list(generator())).calls == 1 + 3


def test_code_that_grew_warm_counts_the_same() -> None:
    assert len({trace(lambda: loop(200)) for _ in range(30)}) == 1


def test_c_functions_do_not_count() -> None:
    assert trace([3, 1, 2].sort) == PythonWork(calls=0, bytecodes=0)


def test_another_threads_work_does_not_count() -> None:
    alone = trace(lambda: loop(2000))
    stop = threading.Event()

    def busy() -> None:
        while not stop.wait(0.0001):
            loop(50)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        assert trace(lambda: loop(2000)) == alone
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on, nothing is replaced: tools work side by side")
def test_a_tracer_that_was_there_is_put_back_even_after_an_error() -> None:
    def tracer(_frame: FrameType, _event: str, _argument: object) -> None:
        return None

    previous = sys.gettrace()
    sys.settrace(tracer)
    try:
        with pytest.raises(ZeroDivisionError):
            trace(lambda: 1 // 0)
        found = sys.gettrace()
    finally:
        sys.settrace(previous)
    assert found is tracer
