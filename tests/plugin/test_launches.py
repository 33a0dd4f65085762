"""Launches in real processes: a stand-in takes the place of models, so that each costs a pytest start only."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.plugin.running import Run, records

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
ROOT = Path(__file__).parents[2]
ARGUMENTS = (
    *("-p", "pytest_benchmark.plugin", "-p", "peftbench.plugin", "-p", "tests.plugin.standin"),
    "--peftbench-methods=full,lora,ia3",
    "--peftbench-tasks=nli",
    "--peftbench-batch-sizes=2",
)


@pytest.fixture
def light_project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path / "src"), str(ROOT / "src"), str(ROOT)]))
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(test_bench=BENCH, **{"src/underlying": UNDERLYING})
    return pytester


def test_cases_run_in_fresh_processes_and_one_that_dies_costs_what_it_had_not_finished(
    light_project: pytest.Pytester,
) -> None:
    (light_project.path / "die-once").write_text("ia3")
    result = light_project.runpytest_subprocess(
        *ARGUMENTS, "--peftbench-launches=2", "--peftbench-json=run.json", "--junitxml=junit.xml"
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            "peftbench: launch 1 was killed by SIGKILL after 2 of 3 cases; its output: *log.txt",
            "peftbench: launch 2: 3 cases, *",
        ]
    )
    found = records(light_project.path / "run.json")
    assert {name: len(record["launches"]) for name, record in found.items()} == {
        "train_step[full-nli-bs2]": 2,
        "train_step[lora-nli-bs2]": 2,
        "train_step[ia3-nli-bs2]": 1,
    }
    assert len({launch["session"] for record in found.values() for launch in record["launches"]}) == 1
    assert (light_project.path / "junit.xml").read_text().count("<testcase") == 4


REPORTS = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--report-log")
    parser.addoption("--html", dest="htmlpath")
    parser.addoption("--json-report", action="store_true")

@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    asked = ("report_log", "htmlpath", "json_report", "pastebin")
    with open("asked.txt", "a") as file:
        print(*(bool(getattr(config.option, name)) for name in asked), file=file)
    config.option.pastebin = None  # sends nothing
"""


def test_logs_and_reports_are_the_parents(light_project: pytest.Pytester) -> None:
    light_project.makeini("[pytest]\nlog_file = all.log\n")
    light_project.makeconftest(REPORTS)
    (light_project.path / "src/underlying.py").write_text(f"import logging\n{UNDERLYING}    logging.warning('child')\n")
    (light_project.path / "test_bench.py").write_text(
        BENCH.replace("pass", "import logging; logging.warning('parent')") + "\n"
    )
    light_project.runpytest_subprocess(
        *ARGUMENTS,
        *("-k", "lora or ordinary", "--peftbench-launches=1"),
        *("--report-log=x", "--html=x", "--json-report", "--pastebin=all"),
    ).assert_outcomes(passed=2)
    log = (light_project.path / "all.log").read_text()
    assert "parent" in log
    assert "child" not in log
    asked = (light_project.path / "asked.txt").read_text().splitlines()
    assert asked == ["True True True True", "False False False False"]


def test_a_real_case_is_measured_in_a_process_of_its_own(
    run: Run, benches: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    result = run("-k", "train_step and lora", "--peftbench-launches=1", "--peftbench-json=run.json")
    result.assert_outcomes(passed=1)
    (record,) = records(benches.path / "run.json").values()
    assert record["metrics"]["flops"]["value"] > 0
    assert record["launches"][0]["rounds"] == 3
    assert record["launches"][0]["x"] is not None
    assert not (benches.path / ".peftbench/journal.jsonl").exists()


def test_a_launch_that_was_cut_short_is_taken_up(light_project: pytest.Pytester) -> None:
    (light_project.path / "die-once").write_text("ia3")
    arguments = (*ARGUMENTS, "--peftbench-launches=1", "--peftbench-json=run.json")
    light_project.runpytest_subprocess(*arguments).assert_outcomes(passed=3, failed=1)
    first = records(light_project.path / "run.json")
    result = light_project.runpytest_subprocess(*arguments, "--peftbench-resume")
    result.assert_outcomes(passed=4)
    second = records(light_project.path / "run.json")
    assert len(second) == 3
    assert all(second[name]["launches"] == record["launches"] for name, record in first.items())


def test_a_child_whose_parent_was_killed_ends_whatever_it_does(light_project: pytest.Pytester) -> None:
    (light_project.path / "src/underlying.py").write_text(
        "import os, signal, sys, time\nfrom pathlib import Path\n\nFLOPS = 100\n\n"
        "def work(method):\n"
        "    first = not list(Path().glob('ran-*'))\n"
        "    if not Path(f'ran-{method}').exists():\n"
        "        Path(f'ran-{method}').write_text(str(os.getpid()))\n"
        "    if first:\n"
        "        os.kill(os.getppid(), signal.SIGKILL)\n"
        "        time.sleep(60 if sys.platform == 'linux' else 1)\n"
    )
    result = light_project.runpytest_subprocess(*ARGUMENTS, "--peftbench-launches=1")
    assert result.ret == -signal.SIGKILL
    child = int((light_project.path / "ran-full").read_text())
    patience_s = 50.0
    while psutil.pid_exists(child) and patience_s > 0:
        time.sleep(0.1)
        patience_s -= 0.1
    assert not psutil.pid_exists(child)
    assert not (light_project.path / "ran-lora").exists()
    if sys.platform != "linux":  # where the system does not kill it, it looks before each case
        (log,) = (light_project.path / ".peftbench/launches").rglob("log.txt")
        assert "the run that started this launch is gone" in log.read_text()
