from __future__ import annotations

import sys
from pathlib import Path

import pytest

from peftbench.measure.memory import resident as module
from peftbench.measure.memory.resident import resident

MEBIBYTE = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the high-water mark back on request")
def test_the_peak_sees_what_was_freed_again() -> None:
    quiet = resident(lambda: None)
    busy = resident(lambda: bytearray(b"x" * 64 * MEBIBYTE))
    after_all = resident(lambda: None)
    assert quiet.peak_bytes is not None
    assert busy.peak_bytes is not None
    assert after_all.peak_bytes is not None
    assert busy.peak_bytes - quiet.peak_bytes > 60 * MEBIBYTE
    assert busy.peak_bytes - after_all.peak_bytes > 60 * MEBIBYTE
    assert busy.after_bytes < busy.peak_bytes - 60 * MEBIBYTE


def test_no_peak_is_a_reason_and_not_a_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    calls: list[int] = []
    metrics = resident(lambda: calls.append(1)).metrics()
    assert calls == [1]
    assert metrics["resident_peak_bytes"].value is None
    assert "clear_refs" in metrics["resident_peak_bytes"].reason
    assert metrics["resident_bytes"].value
    assert {metric.noise for metric in metrics.values()} == {"sampled"}
