"""What people are used to do with pytest and pytest-benchmark, and do with our cases too."""

import json
import re

import pytest
from tests.plugin.conftest import SMALL
from tests.plugin.running import Run

CASES = ("full-nli-bs2", "lora-nli-bs2")


def test_a_suite_without_warnings_can_measure_what_libraries_warn_of(run: Run) -> None:
    result = run("-W", "error", "--peftbench-methods=adalora", "-k", "train_step")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*RuntimeWarning: The following rank_pattern keys did not match*", "adalora *ok*"])


def test_a_case_that_fails_early_is_one_failure_and_no_error(benches: pytest.Pytester, run: Run) -> None:
    benches.makepyfile(
        bench_all="""
        from peftbench import bench

        @bench("inference", methods="full")
        def inference(peft_case):
            peft_case.measure(lambda model, batch: 1 / 0)
        """
    )
    result = run("-W", "error")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*PytestBenchmarkWarning*")
    result.stdout.fnmatch_lines(["E   ZeroDivisionError: division by zero"])
    frames = [line for line in result.outlines if re.match(r"[\w./-]+\.py:\d+: ", line)]
    assert [line.partition(":")[0] for line in frames] == ["bench_all.py"] * 2  # the test, and the function in it


def test_the_users_own_warnings_are_errors_outside_a_case(benches: pytest.Pytester, run: Run) -> None:
    benches.makepyfile(
        bench_all="""
        import warnings
        from peftbench import bench

        @bench("inference", methods="full")
        def inference(peft_case):
            peft_case.measure()
            warnings.warn("mine")
        """
    )
    run("-W", "error").assert_outcomes(failed=1)
    run("-W", "ignore").assert_outcomes(passed=1)


def test_pytest_benchmark_knows_cases_by_their_words(run: Run, benches: pytest.Pytester) -> None:
    result = run("--benchmark-json=theirs.json", "--benchmark-group-by=param:peft_case")
    result.stdout.fnmatch_lines(["*benchmark 'peft_case=full-nli-bs2': 2 tests*"])
    result.stdout.fnmatch_lines(["*benchmark 'peft_case=lora-nli-bs2': 2 tests*"])
    found = json.loads((benches.path / "theirs.json").read_text())["benchmarks"]
    assert {one["name"]: one["params"] for one in found} == {
        f"{function}[{words}]": {"peft_case": words} for function in ("train_step", "inference") for words in CASES
    }


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_the_table_is_readable_on_a_terminal_of_any_encoding(
    benches: pytest.Pytester, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    result = benches.runpytest_subprocess(*SMALL, "--peftbench-methods=full", "-k", "inference")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["method *status*", "-----*", "full *ok*"])
    result.stdout.no_fnmatch_line("*\\u2500*")


def test_benchmark_files_need_no_setting_of_pytest(benches: pytest.Pytester, run: Run) -> None:
    benches.makeini("[pytest]\n")  # as in a project that never heard of `python_files`
    benches.makepyfile(bench_script="raise SystemExit('a script that no pytest imports')")
    names = [f"bench_all.py::{name}[{case}]" for name in ("train_step", "inference") for case in CASES]
    assert sorted(run("--co", "-q").outlines[:4]) == sorted(names)
    assert sorted(run("--co", "-q", "bench_all.py").outlines[:4]) == sorted(names)
    assert sorted(benches.runpytest_inprocess(*SMALL[1:], "--benchmark-disable", "--co", "-q").outlines[:4]) == sorted(
        names
    )
    assert not set(names) & set(benches.runpytest_inprocess("--co", "-q").outlines)
    benches.makeini("[pytest]\npython_files = bench_a*.py\n")
    assert sorted(name for name in run("--co", "-q").outlines if "::" in name) == sorted(names)  # each once
