"""The script for a machine with a GPU, with a stand-in for Python that records what it was asked and writes runs."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "tools" / "gpu_check.sh"
RECORDS = (
    '{"records": [{"id": "train_step[full-nli-bs32]", "status": "ok", "reason": "", "metrics": '
    '{"time_s": {"value": 0.0125}, "device_s": {"value": 0.01}, "peak_allocated_bytes": {"value": 1048576}}}, '
    '{"id": "inference[full-nli-bs32]", "status": "out-of-memory", "reason": "out of memory", "metrics": {}}]}'
)
PYTHON = f"""#!/bin/sh
echo "$@" >>"$CALLS"
case "$1 $2" in
    "- cuda"*) exit "$PROBE" ;;
    "- "*) exec {sys.executable} "$@" ;;
esac
for argument; do
    case $argument in
        --peftbench-json=*) echo '{RECORDS}' >"${{argument#*=}}" ;;
        tests/cuda) echo "one test failed"; exit 1 ;;
    esac
done
"""


def check(tmp_path: Path, *, probe: int) -> tuple["subprocess.CompletedProcess[str]", list[str]]:
    python, calls = tmp_path / "python", tmp_path / "calls"
    python.write_text(PYTHON)
    python.chmod(0o755)
    env = {**os.environ, "PYTHON": str(python), "CALLS": str(calls), "PROBE": str(probe), "TMPDIR": str(tmp_path)}
    done = subprocess.run([SCRIPT, "cuda:1"], env=env, capture_output=True, text=True, check=False)
    return done, calls.read_text().splitlines()


def test_without_a_gpu_nothing_runs(tmp_path: Path) -> None:
    done, calls = check(tmp_path, probe=1)
    assert done.returncode == 2
    assert calls == ["- cuda:1"]


def test_a_failing_step_does_not_stop_the_others_and_both_tables_are_printed(tmp_path: Path) -> None:
    done, calls = check(tmp_path, probe=0)
    assert done.returncode == 1
    benches = [call for call in calls if "benches/" in call]
    assert len(benches) == 3
    assert all("--peftbench-device=cuda:1" in call for call in benches)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert "one test failed" in done.stdout
    assert ["float32", "train_step[full-nli-bs32]", "12.500", "0.8000", "1.0000", "1", "ok"] in rows
    assert ["bfloat16", "inference[full-nli-bs32]", "-", "-", "-", "-", "out-of-memory", "out", "of", "memory"] in rows
    steps = {row[0]: row[3:] for row in rows if len(row) > 3 and row[2] == "s"}
    assert steps == {"cuda-tests": ["exit", "1"], "float32": ["ok"], "bfloat16": ["ok"], "float32-again": ["ok"]}


def test_the_steps_stay_under_ten_minutes() -> None:
    limits = [
        int(words[2])
        for line in SCRIPT.read_text().splitlines()
        if (words := line.split()) and words[0] in {"step", "bench"} and len(words) > 2 and words[2].isdigit()
    ]
    assert len(limits) == 4
    assert sum(limits) < 600
