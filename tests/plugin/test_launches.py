"""Launches in real processes: a stand-in takes the place of models, so that each costs a pytest start only."""

import os
from pathlib import Path

import pytest
from tests.plugin.running import records

UNDERLYING = """
FLOPS = 100

def work(method):
    sum(range(20_000))
"""
BENCH = """
from peftbench import bench

@bench("train_step")
def train_step(peft_case):
    record = peft_case.measure()
    assert record.metrics["flops"].value

def test_ordinary():
    pass
"""
ARGUMENTS = (
    *("-p", "pytest_benchmark.plugin", "-p", "peftbench.plugin", "-p", "tests.plugin.standin"),
    "--peftbench-methods=full,lora,ia3",
    "--peftbench-tasks=nli",
    "--peftbench-batch-sizes=2",
)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path / "src"), str(root / "src"), str(root)]))
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(test_bench=BENCH, **{"src/underlying": UNDERLYING})
    return pytester


def test_cases_run_in_fresh_processes_and_one_that_dies_costs_what_it_had_not_finished(
    project: pytest.Pytester,
) -> None:
    (project.path / "die-once").write_text("ia3")
    result = project.runpytest_subprocess(
        *ARGUMENTS, "--peftbench-launches=2", "--peftbench-json=run.json", "--junitxml=junit.xml"
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            "peftbench: launch 1 was killed by SIGKILL after 2 of 3 cases; its output: *log.txt",
            "peftbench: launch 2: 3 cases, *",
        ]
    )
    found = records(project.path / "run.json")
    assert {name: len(record["launches"]) for name, record in found.items()} == {
        "train_step[full-nli-bs2]": 2,
        "train_step[lora-nli-bs2]": 2,
        "train_step[ia3-nli-bs2]": 1,
    }
    assert len({launch["session"] for record in found.values() for launch in record["launches"]}) == 1
    assert (project.path / "junit.xml").read_text().count("<testcase") == 4
