"""The gate in pytest: the processes are played by a function that yields made-up launches; all else is real."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.plugin.processes import BENCH, LORA, METHODS, SETTINGS, World, brackets, made_up
from tests.plugin.running import records
from tests.plugin.standin import FINGERPRINT

from peftbench.gate import store
from peftbench.gate.snapshot import snapshot_of
from peftbench.records.record import Run

Gate = Callable[..., pytest.RunResult]


@pytest.fixture
def gate(project: pytest.Pytester) -> Gate:
    """Runs the gate on six cases against a baseline of twenty launches each."""
    baseline = Run(FINGERPRINT, SETTINGS, tuple(made_up(method, launches=range(20)) for method in METHODS))
    accept(project.path / "baselines", baseline)

    def run(*arguments: str, methods: str = ",".join(METHODS)) -> pytest.RunResult:
        return project.runpytest_inprocess(
            *("--peftbench-gate", f"--peftbench-methods={methods}", "--peftbench-tasks=nli"),
            *("--peftbench-batch-sizes=2", "-p", "no:cacheprovider", *arguments),
        )

    return run


def accept(folder: Path, run: Run) -> None:
    store.save(snapshot_of(run), folder / store.file_name(run.fingerprint, run.settings))


def test_a_clean_suite_takes_three_launches_and_passes(gate: Gate, world: World) -> None:
    result = gate()
    result.assert_outcomes(passed=6)
    assert result.ret == 0
    assert [len(methods) for methods in world.asked] == [6, 6, 6]
    result.stdout.fnmatch_lines(["*peftbench gate*", "against *baselines*", "Passed: 6 of 6 cases compared*"])


def test_the_first_launch_proves_and_counts_and_the_others_only_time(gate: Gate, world: World) -> None:
    world.at_first["dora"] = 0.02
    gate().assert_outcomes(passed=6)
    first, *others = world.known
    assert first == ()
    assert others == world.nodes[1:]
    assert len(others) == 3


def test_what_failed_is_proven_again_and_a_counter_that_rose_is_counted_again(gate: Gate, world: World) -> None:
    world.out_of_memory.add("lora")
    world.flops["dora"] = 1001
    gate().assert_outcomes(passed=4, failed=2)
    assert [len(nodes) for nodes in world.known] == [0, 4, 4]
    assert not any("lora" in node or "dora" in node for nodes in world.known for node in nodes)


def test_a_slower_case_is_launched_again_later_with_siblings_and_is_red(
    gate: Gate, world: World, pytester: pytest.Pytester
) -> None:
    world.shift["lora"] = 0.06
    result = gate("--junitxml=junit.xml", "--peftbench-json=run.json", "--peftbench-diff-json=diff.json")
    result.assert_outcomes(passed=5, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert [len(methods) for methods in world.asked] == [6] * 3 + [1] * 2 + [5]  # certain after six
    assert all("lora" in methods for methods in world.asked)
    text = result.stdout.str()
    parts = ("= peftbench =", "= peftbench: the answer =", "= peftbench gate =", "\nFAILED ", " failed")
    assert [text.rindex(part) for part in parts] == sorted(text.rindex(part) for part in parts)
    result.stdout.fnmatch_lines([f"FAILED bench_all.py::{brackets(LORA)} - Failed: regressed: [56].* % slower [[]*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    (failure,) = ET.parse(pytester.path / "junit.xml").iter("failure")  # noqa: S314 - written by pytest
    assert " % slower [" in failure.attrib["message"]
    assert len(records(pytester.path / "run.json")[LORA]["launches"]) == 6
    diff = json.loads((pytester.path / "diff.json").read_text())
    assert diff["failed"] is True
    (case,) = (case for case in diff["cases"] if case["verdict"] == "regressed")
    assert case["id"] == LORA
    assert case["cause"] in failure.attrib["message"]


@pytest.mark.parametrize("what", ["clock", "counter"])
def test_a_case_that_is_certain_is_launched_no_more(gate: Gate, world: World, what: str) -> None:
    """After three launches p was 1e-20, and the gate went on to ten: 241 s instead of 90."""
    world.shift["lora"] = 0.2 if what == "clock" else 0.03
    world.flops["lora"] = 1000 if what == "clock" else 1001
    result = gate()
    result.assert_outcomes(passed=5, failed=1)
    assert [len(methods) for methods in world.asked] == [6, 6, 6]
    cause = "*regressed: 2*% slower *" if what == "clock" else "*regressed: 0.1 % more FLOPs *; its time *"
    result.stdout.fnmatch_lines([f"FAILED bench_all.py::{brackets(LORA)} - Failed: {cause}"])


def test_a_suspect_that_is_cleared_is_launched_no_more(gate: Gate, world: World) -> None:
    world.at_first["dora"] = 0.02
    result = gate()
    result.assert_outcomes(passed=6)
    assert [len(methods) for methods in world.asked] == [6, 6, 6, 1]
    assert all("dora" in methods for methods in world.asked)


def test_a_counter_that_rises_is_red_on_any_machine_after_one_launch(gate: Gate, world: World) -> None:
    world.fingerprint = {**FINGERPRINT, "cpu": "another", "torch": f"{FINGERPRINT['torch']}+another.build"}
    world.shift["full"] = 0.5  # not judged
    world.flops["lora"] = 1001
    result = gate()
    result.assert_outcomes(passed=5, failed=1)
    assert len(world.asked) == 1
    result.stdout.fnmatch_lines(
        ["*times are shown, not judged: other machine*another*", "FAILED *regressed: 0.1 % more FLOPs (1000 -> 1001)*"]
    )


def test_a_loop_in_python_is_found_by_counters_alone_and_is_a_note_where_the_clock_excludes_a_slowdown(
    gate: Gate, world: World
) -> None:
    world.bytecodes["lora"] = 5085
    result = gate("--peftbench-diff-json=diff.json")
    result.assert_outcomes(passed=6)
    case = next(case for case in json.loads(Path("diff.json").read_text())["cases"] if case["id"] == LORA)
    assert case["counters"] == [{"name": "bytecodes", "before": 5000, "after": 5085, "fails": False}]
    world.fingerprint = {**FINGERPRINT, "cpu": "another"}
    result = gate()
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["FAILED *regressed: 1.7 % more bytecodes (5000 -> 5085)*"])


def test_a_case_that_runs_out_of_memory_now_is_red_and_no_skip(gate: Gate, world: World) -> None:
    world.out_of_memory.add("lora")
    result = gate()
    result.assert_outcomes(passed=5, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED *out-of-memory: needs 2 GiB; it ran before*"])


def test_a_case_that_is_skipped_is_missing_and_fails_a_strict_gate(
    gate: Gate, world: World, pytester: pytest.Pytester
) -> None:
    world.skipped.add("lora")
    pytester.makeconftest(
        "import pytest\n\ndef pytest_collection_modifyitems(items):\n"
        "    for item in items:\n        if '[lora-' in item.name:\n            item.add_marker(pytest.mark.skip)\n"
    )
    gate().assert_outcomes(passed=5, skipped=1)
    result = gate("--peftbench-strict")
    result.assert_outcomes(passed=5, skipped=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"FAILED peftbench::{brackets(LORA)} - missing: is not in this run"])


def test_a_baseline_with_none_of_the_cases_is_no_baseline(gate: Gate, pytester: pytest.Pytester) -> None:
    accept(pytester.path / "baselines", Run(FINGERPRINT, SETTINGS, (made_up("full", launches=range(20)),)))
    result = gate("-k", "lora")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["none of these cases is in *baselines*: nothing was compared*"])
    strict = gate("-k", "lora", "--peftbench-strict")
    assert strict.ret == pytest.ExitCode.TESTS_FAILED


def test_a_single_case_that_is_named_makes_no_other_missing(gate: Gate) -> None:
    result = gate("--peftbench-strict", f"bench_all.py::{LORA}")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["Passed: 1 of 1 case*"])


def test_a_run_case_is_compared_whatever_the_options_of_another_workload_leave_out(
    world: World, gate: Gate, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        bench_all=BENCH
        + '\n@bench("inference", methods=["full", "lora"])\ndef inference(peft_case):\n    peft_case.measure()\n'
    )
    inference = [
        replace(made_up(name, launches=range(20)), id=f"inference[{name}-nli-bs2]") for name in ("full", "lora")
    ]
    accept(pytester.path / "baselines", Run(FINGERPRINT, SETTINGS, tuple(inference)))
    world.flops["lora"] = 1001
    result = gate("--peftbench-strict", "--peftbench-workloads=inference", methods="ia3")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["Failed: 1 of 2 cases*", "FAILED *inference?lora-nli-bs2? - *regressed: 0.1 % more FLOPs (1000 -> 1001)*"]
    )


@pytest.mark.parametrize("switch", ["--benchmark-skip", "--benchmark-disable"])
def test_a_gate_that_is_switched_off_is_refused_not_passed(gate: Gate, world: World, switch: str) -> None:
    result = gate(switch)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: peftbench: --peftbench-gate measures, which --benchmark-disable*"])
    assert gate(switch, "--collect-only").ret == 0
    assert not world.asked


def test_files_that_do_not_import_do_not_keep_others_from_the_gate_where_pytest_goes_on(
    gate: Gate, world: World, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(bench_broken="import no_such_module")
    assert gate().ret == pytest.ExitCode.INTERRUPTED
    assert not world.asked
    result = gate("--continue-on-collection-errors")
    result.assert_outcomes(passed=6, errors=1)
    assert [len(methods) for methods in world.asked] == [6, 6, 6]


def test_a_file_that_cannot_be_written_costs_nothing_else(
    gate: Gate, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "gone" / "summary.md"))
    result = gate(
        *("--peftbench-json=run.json", "--peftbench-bencher-json=/dev/full", "--peftbench-diff-json=d.json"),
        "--peftbench-html=report.html",
    )
    result.assert_outcomes(passed=6)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        [
            "ERROR: peftbench: /dev/full: cannot be written: No space*",
            "ERROR: peftbench: *summary.md*",
            "Passed: 6 of 6*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    assert len(records(pytester.path / "run.json")) == 6
    assert json.loads((pytester.path / "d.json").read_text())["failed"] is False
    assert "Passed: 6 of 6 cases compared" in (pytester.path / "report.html").read_text()


def test_an_error_at_the_end_has_a_line_of_its_own_under_q(gate: Gate) -> None:
    lines = gate("-q", "--peftbench-bencher-json=/dev/full").outlines
    assert [line.partition(": cannot")[0] for line in lines if "cannot be written" in line] == [
        "ERROR: peftbench: /dev/full"
    ]


def test_what_can_be_no_file_is_refused_before_anything_runs(gate: Gate, world: World, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in (
        (tmp_path, "is a folder; name the file"),
        (tmp_path / "file/a/x.html", f"{tmp_path}/file is no"),
    ):
        result = gate(f"--peftbench-html={path}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: peftbench: {path}: *{said}*"])
    assert not world.asked


def test_an_improvement_passes(gate: Gate, world: World) -> None:
    world.shift["lora"] = -0.08
    result = gate()
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines([f"{brackets(LORA)}*improved*"])


@pytest.mark.usefixtures("gate")
def test_a_case_that_is_gone_is_a_row_and_fails_a_strict_gate(pytester: pytest.Pytester) -> None:
    gone = replace(made_up("lora", launches=range(20)), id="train_step[gone-nli-bs2]")
    cases = (*(made_up(method, launches=range(20)) for method in METHODS), gone)
    accept(pytester.path / "baselines", Run(FINGERPRINT, SETTINGS, cases))
    pytester.makeini("[pytest]\npython_files = bench_*.py\npeftbench_methods = " + ",".join(METHODS))
    ini_only = ("--peftbench-gate", "--peftbench-tasks=nli", "--peftbench-batch-sizes=2")
    result = pytester.runpytest_inprocess(*ini_only)
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["train_step?gone-nli-bs2?*missing*"])
    strict = pytester.runpytest_inprocess(*ini_only, "--peftbench-strict", "--junitxml=junit.xml")
    assert strict.ret == pytest.ExitCode.TESTS_FAILED
    strict.assert_outcomes(passed=6, failed=1)
    strict.stdout.fnmatch_lines(["FAILED peftbench::train_step?gone-nli-bs2? - missing: is not in this run"])
    assert 'failures="1"' in (pytester.path / "junit.xml").read_text()


@pytest.mark.parametrize("narrowing", [("-k", "lora"), ("--deselect", f"bench_all.py::{LORA}")])
def test_a_case_that_is_not_asked_for_is_not_missing(gate: Gate, narrowing: tuple[str, str]) -> None:
    result = gate("--peftbench-strict", *narrowing)
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(["Passed: [15] of [15] case*", "[15] unchanged; *"])


def test_a_method_that_is_not_asked_for_is_not_missing(gate: Gate) -> None:
    result = gate("--peftbench-strict", methods="full,head,bitfit,dora,ia3")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["Passed: 5 of 5 cases compared*", "5 unchanged; *"])


def test_everything_slower_together_is_a_verdict_of_its_own(gate: Gate, world: World) -> None:
    world.shift = dict.fromkeys(METHODS, 0.06)
    result = gate()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED peftbench::common shift - *every case moved by +6*"])


def test_without_a_baseline_it_says_so_and_passes_unless_strict(gate: Gate, world: World, tmp_path: Path) -> None:
    elsewhere = f"--peftbench-baseline={tmp_path / 'none'}"
    result = gate(elsewhere)
    assert result.ret == 0
    assert len(world.asked) == 1
    result.stdout.fnmatch_lines(["no baseline of these settings in *none (no such folder)*"])
    strict = gate(elsewhere, "--peftbench-strict")
    assert strict.ret == pytest.ExitCode.TESTS_FAILED
    strict.stdout.fnmatch_lines(["FAILED peftbench::baseline - no baseline*"])


def test_where_nothing_was_compared_the_file_says_so_and_an_annotation_is_escaped(
    gate: Gate, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    gate("--peftbench-diff-json=full.json")
    full = json.loads((pytester.path / "full.json").read_text())
    for strict in ((), ("--peftbench-strict",)):
        result = gate("--peftbench-baseline=100%", "--peftbench-diff-json=diff.json", *strict)
        found = json.loads((pytester.path / "diff.json").read_text())
        assert found.keys() == full.keys()
        assert (found["schema"], found["failed"], found["cases"]) == (full["schema"], bool(strict), [])
        assert found["headline"].startswith(
            "no baseline of these settings in 100% (no such folder): nothing was compared"
        )
    result.stdout.fnmatch_lines(["::error title=peftbench::no baseline of these settings in 100%25 (no such folder)*"])


def test_constants_of_the_rule_are_options(gate: Gate, world: World) -> None:
    world.shift["lora"] = 0.06
    result = gate(
        "--peftbench-gate-rule=limit=0.2", "--peftbench-gate-rule=tolerance=0.15", "--peftbench-gate-rule=launches=4"
    )
    result.assert_outcomes(passed=6)
    assert len(world.asked) == 4
    refused = gate("--peftbench-gate-rule=limit=7")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["ERROR: peftbench: *limit 7.0: must be from 0.0 to 1.0*"])


def test_github_gets_a_summary_and_annotations(
    gate: Gate, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    world.flops["lora"] = 2000
    result = gate()
    result.stdout.fnmatch_lines([f"::error title={brackets(LORA)} regressed::regressed*"])
    text = summary.read_text()
    assert text.startswith("before\n## peftbench: against ")
    assert "**Failed: 1 of 6 cases regressed" in text


def test_a_broken_baseline_is_one_line(gate: Gate, pytester: pytest.Pytester) -> None:
    (file,) = (pytester.path / "baselines").glob("*.json")
    file.write_text(file.read_text()[:200])
    result = gate()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert str(file) in line


def test_recorded_launches_are_enough_for_a_baseline_and_feed_pytest_benchmark(
    world: World, gate: Gate, pytester: pytest.Pytester
) -> None:
    del gate
    result = pytester.runpytest_inprocess(
        *("--peftbench-record", "--peftbench-methods=lora", "--peftbench-tasks=nli", "--peftbench-batch-sizes=2"),
        *("--benchmark-json=bench.json", "--peftbench-bencher-json=bmf.json", "--peftbench-action-json=action.json"),
        "--peftbench-html=report.html",
    )
    assert result.ret == 0
    assert LORA in (pytester.path / "report.html").read_text()
    assert len(world.asked) == 5
    assert len(records(pytester.path / ".peftbench/run.json")[LORA]["launches"]) == 5
    result.stdout.fnmatch_lines(["make it the baseline: peftbench accept *run.json --why *"])
    (bench,) = json.loads((pytester.path / "bench.json").read_text())["benchmarks"]
    assert bench["stats"]["data"] == [0.01] * 5
    assert bench["extra_info"]["peftbench"]["id"] == LORA
    assert json.loads((pytester.path / "bmf.json").read_text())[LORA]["flops"] == {"value": 1000}
    assert json.loads((pytester.path / "action.json").read_text())[0]["name"] == f"{LORA}: time"


def test_what_was_recorded_is_accepted_where_the_gate_looks(
    world: World, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    small = ("--peftbench-record", "--peftbench-methods=lora", "--peftbench-tasks=nli", "--peftbench-batch-sizes=2")
    run_file, folder = project.path / ".peftbench/run.json", project.path / "baselines"
    inner = project.mkdir("inner")

    def said(*arguments: str) -> str:
        lines = project.runpytest_inprocess(*small, *arguments).outlines
        (command,) = (line.partition("baseline: ")[2] for line in lines if line.startswith("make it the baseline: "))
        return command

    assert said() == said("--peftbench-baseline=baselines") == f'peftbench accept {run_file} --why "..."'
    assert said("--peftbench-baseline=a b") == f"peftbench accept {run_file} '--baseline=a b' --why \"...\""
    monkeypatch.chdir(inner)
    assert said("..") == f'peftbench accept {run_file} --baseline={folder} --why "..."'


def test_modes_exclude_each_other(gate: Gate) -> None:
    result = gate("--peftbench-record")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: peftbench: --peftbench-record and --peftbench-gate: give one of them*"])
