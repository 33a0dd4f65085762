"""The script for a machine with a GPU, with a stand-in for Python that records what it was asked and writes runs."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tools import gpu_report

SCRIPT = Path(__file__).parents[3] / "tools" / "gpu_check.sh"
CASE = "train_step[full-nli-bs32]"


def run_file(metrics: Mapping[str, float | None], *, flops: int = 100) -> str:
    """Return a run with one case that has numbers, and one that has none."""
    found: dict[str, Any] = {name: {"value": value, "noise": "sampled"} for name, value in metrics.items()}
    found["flops"] = {"value": flops, "noise": "exact"}
    passes = {"build": 0.5, "time": 2.0, "rounds": 1.5, "energy": 1.5}
    fine = {"id": CASE, "status": "ok", "reason": "", "metrics": found, "passes_s": passes}
    hole = {"id": "inference[full-nli-bs32]", "status": "out-of-memory", "reason": "out of memory", "metrics": {}}
    return json.dumps({"records": [fine, hole]})


EAGER = {
    "time_s": 0.040,
    "device_s": 0.038,
    "busy_s": 0.004,
    "busy_share": 0.1,
    "energy_j": 8.0,
    "energy_window_s": 1.0,
}
PYTHON = f"""#!/bin/sh
echo "$@" >>"$CALLS"
case "$1 $2" in
    "- cuda"*) exit "$PROBE" ;;
    tools/gpu_report.py*) exec {sys.executable} "$@" ;;
esac
for argument; do
    case $argument in
        --peftbench-json=*) echo '{run_file(EAGER)}' >"${{argument#*=}}" ;;
        tests/cuda) echo "one test failed"; exit 1 ;;
        tools/check_probes.py) printf '{{"busy_over' >"${{3#*=}}"; exit 1 ;;
    esac
done
"""


def check(tmp_path: Path, *, probe: int) -> tuple["subprocess.CompletedProcess[str]", list[str]]:
    python, calls = tmp_path / "python", tmp_path / "calls"
    python.write_text(PYTHON)
    python.chmod(0o755)
    env = {**os.environ, "PYTHON": str(python), "CALLS": str(calls), "PROBE": str(probe), "TMPDIR": str(tmp_path)}
    env["JSON"] = str(tmp_path / "found.json")
    done = subprocess.run([SCRIPT, "cuda:1"], env=env, capture_output=True, text=True, check=False)
    return done, calls.read_text().splitlines()


def test_without_a_gpu_nothing_runs(tmp_path: Path) -> None:
    done, calls = check(tmp_path, probe=1)
    assert done.returncode == 2
    assert calls == ["- cuda:1"]


def test_a_failing_step_does_not_stop_the_others_and_one_table_and_one_json_come_out(tmp_path: Path) -> None:
    done, calls = check(tmp_path, probe=0)
    assert done.returncode == 1
    benches = [call for call in calls if "benches/" in call]
    assert len(benches) == 3
    assert all("--peftbench-device=cuda:1" in call for call in benches)
    assert sum("--peftbench-execution=graph" in call for call in benches) == 1
    assert "one test failed" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert {one["step"]: one["result"] for one in found["steps"]} == {
        "cuda-tests": "exit 1",
        "eager": "ok",
        "again": "ok",
        "graph": "ok",
        "bias": "ok",
        "probes": "exit 1",
    }
    assert found["steps"][0]["log"] == "one test failed\n"
    assert found["holes"]["graph inference[full-nli-bs32]"] == "out-of-memory: out of memory"
    values = {one["what"]: one["value"] for one in found["rows"]}
    assert values["event over wall time, least"] == pytest.approx(0.95)
    assert values["what the sampler costs a step"] is None
    assert "GPU busy, median case" in done.stdout


def test_the_numbers_of_the_table_and_whether_their_aims_are_reached(tmp_path: Path) -> None:
    (tmp_path / "eager.json").write_text(run_file(EAGER))
    (tmp_path / "again.json").write_text(run_file({**EAGER, "time_s": 0.044, "energy_j": 8.4}, flops=101))
    (tmp_path / "graph.json").write_text(run_file({"time_s": 0.005, "busy_s": 0.004}))
    bias = {"workload": "inference", "method": "lora", "ratio": 1.0, "low": 0.995, "high": 1.005}
    (tmp_path / "bias.json").write_text(json.dumps([bias, {**bias, "workload": "train_step", "high": 1.02}]))
    (tmp_path / "probes.json").write_text(
        json.dumps({"busy_over_events": 1.01, "sampler_cost": 0.03, "sample_s": 2e-4})
    )
    rows = {row.what: row for row in gpu_report.rows(tmp_path)}
    found: dict[str, Any] = {what: (row.value, row.good) for what, row in rows.items()}
    assert found["wall time between two launches, largest difference"] == (pytest.approx(0.0953, abs=1e-4), False)
    assert found["joules between two launches, largest difference"] == (pytest.approx(0.0488, abs=1e-4), True)
    assert found["busy time between two launches, largest difference"] == (0, True)
    assert found["x base between two launches, largest difference"] == (None, None)
    assert found["counters that differ between launches"] == (1, False)
    assert rows["counters that differ between launches"].note == f"{CASE}: flops"
    assert found["eager busy over graph time, farthest from 1"] == (pytest.approx(0.223, abs=1e-3), False)
    assert found["graph over eager time, median case"] == (pytest.approx(0.125), None)
    assert found["seconds a case"] == (4.0, True)
    assert found["share of rounds and windows"] == (pytest.approx(2.5 / 4), True)
    assert [rows[f"bias, {name}"].good for name in ("inference lora", "train_step lora")] == [True, False]
    assert found["busy time of products over event time"] == (1.01, True)
    assert found["what the sampler costs a step"] == (0.03, False)
    assert "NOT REACHED" in gpu_report.table(list(rows.values()), [])


def test_the_steps_stay_within_eight_minutes() -> None:
    limits = [
        int(words[2])
        for line in SCRIPT.read_text().splitlines()
        if (words := line.split()) and words[0] in {"step", "bench"} and len(words) > 2 and words[2].isdigit()
    ]
    assert len(limits) == 6
    beside = 30 + 6 * 4 + 1  # the look at the device, what does not end when it is told to, and the table
    assert sum(limits) + beside <= 480
    assert "timeout -k 2 30" in SCRIPT.read_text()
    assert "timeout -s INT -k 4" in SCRIPT.read_text()
