from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peftbench.measure import waiting
from peftbench.measure.waiting import MOST, Waiting, waited_s
from peftbench.records.conditions import SHARED_CPU, is_shared


def looked(*, waited: tuple[float | None, float | None], passed_s: float) -> Waiting:
    moments, waits = iter((10.0, 10.0 + passed_s)), iter(waited)
    return Waiting(now=lambda: next(moments), waited=lambda: next(waits))


@pytest.mark.parametrize(
    ("waited", "passed_s", "share"),
    [
        ((1.0, 1.0), 2.0, 0.0),
        ((1.0, 1.4), 2.0, 0.2),
        ((1.0, 1.5), 2.0, 0.25),
        ((1.0, 9.0), 2.0, 1.0),  # several threads waited at once
        ((1.0, 0.5), 2.0, 0.0),  # a thread has ended, and took its waits along
    ],
)
def test_a_share_above_a_fifth_is_told(waited: tuple[float, float], passed_s: float, share: float) -> None:
    found = looked(waited=waited, passed_s=passed_s).findings()
    assert found.metrics["waited_share"].value == pytest.approx(share)
    assert is_shared(found.warnings) == (share > MOST)


def test_a_system_that_does_not_tell_claims_nothing(tmp_path: Path) -> None:
    assert waited_s(tmp_path) is None
    found = looked(waited=(None, None), passed_s=1.0).findings()
    assert (found.metrics, found.warnings) == ({}, ())


def test_the_waits_of_all_threads_are_added_and_one_that_has_ended_is_passed_over(tmp_path: Path) -> None:
    for thread, text in {"1": "5 1500000000 7\n", "2": "5 500000000 7\n", "3": "", "4": None}.items():
        (tmp_path / thread).mkdir()
        if text is not None:
            (tmp_path / thread / "schedstat").write_text(text)
    assert waited_s(tmp_path) == 2.0


@pytest.mark.skipif(not Path(waiting._THREADS, str(os.getpid()), "schedstat").exists(), reason="needs Linux")
def test_a_process_that_shares_its_core_is_seen_to_wait() -> None:
    core = min(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    others = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(2)]
    script = f"""
import os, time
from peftbench.measure.waiting import Waiting
os.sched_setaffinity(0, {{{core}}})
looks = Waiting()
end = time.perf_counter() + 1.0
while time.perf_counter() < end: sum(range(1000))
print(*looks.findings().warnings)
"""
    try:
        time.sleep(0.2)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert done.stdout.startswith(f"{SHARED_CPU}: rounds waited for a core")
