"""What a user asks for, and what happens when it cannot be."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
from tests.plugin.running import Run, records

from peftbench.config.options import Question


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--peftbench-methods=lorra", "unknown method 'lorra': did you mean 'lora'?"),
        ("--peftbench-methods=lora(r=8", "method 'lora(r=8' cannot be read"),
        ("--peftbench-tasks=nlii", "unknown task 'nlii': did you mean 'nli'?"),
        ("--peftbench-workloads=trainstep", "unknown workload 'trainstep': did you mean 'train_step'?"),
        ("--peftbench-batch-sizes=0", "--peftbench-batch-sizes=0: must be at least 1"),
        ("--peftbench-dtype=float8", "unknown value 'float8'"),
        ("--peftbench-model=tny", "unknown model 'tny': did you mean 'tiny'?"),
        ("--peftbench-model=./nowhere", "'./nowhere' does not exist"),
        ("--peftbench-seq-len=100000", "sequence length 100000 is too long: model 'tiny'"),
        ("--peftbench-device=cuda:77", "cuda"),
        ("--peftbench-device=tpu", "allowed are cpu, cuda and cuda:N"),
        ("--peftbench-data=./nowhere", "./nowhere"),
        ("--peftbench-method=lora", "unknown option '--peftbench-method': did you mean '--peftbench-methods'?"),
        ("--peftbench-resume", "there is no journal to resume"),
        ("--peftbench-against= ", "--peftbench-against= : names nothing; another state of the code"),
    ],
)
def test_bad_input_is_one_line_and_a_usage_error(run: Run, argument: str, said: str) -> None:
    result = run(argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in [*result.outlines, *result.errlines] if line.startswith("ERROR: peftbench: ")]
    assert len(lines) == 1
    assert said in lines[0]
    result.stdout.no_fnmatch_line("*Traceback*")


def test_names_are_checked_whichever_workloads_are_selected(run: Run) -> None:
    result = run("--peftbench-workloads=inference", "--peftbench-methods=lorra")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: peftbench: unknown method 'lorra': did you mean 'lora'?*"])


def test_a_bad_name_in_a_marker_is_one_line(run: Run, benches: pytest.Pytester) -> None:
    benches.makepyfile(
        bench_mine="from peftbench import bench\n\n"
        "@bench('train_step', methods=['lorra'])\ndef mine(peft_case):\n    peft_case.measure()\n"
    )
    result = run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*ERROR collecting bench_mine.py*", "peftbench: mine: unknown method 'lorra'*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*plugin.py*")


def test_an_override_that_does_not_fit_ends_the_run_in_one_line(run: Run) -> None:
    result = run("--peftbench-methods=lora(rank=4)")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "'rank'" in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "no data for task 'nli'"),
        (
            ['{"premise": "a", "hypothesis": "b", "label": 0}', '{"premise": "a", "label": 1}'],
            "line 2: lacks the field",
        ),
        (['{"premise": "a", "hypothesis": "b", "label": 0}', '{"premise": '], "line 2"),
        (['{"premise": "a", "hypothesis": "b", "label": 7}'], "line 1"),
    ],
)
def test_data_that_cannot_be_used_is_named_before_a_model_is_built(
    benches: pytest.Pytester, tiny_model: Path, rows: list[str] | None, said: str
) -> None:
    folder = benches.mkdir("data")
    (folder / "ner").mkdir()
    if rows is not None:
        (folder / "nli").mkdir()
        (folder / "nli" / "train.jsonl").write_text("\n".join(rows) + "\n")
    result = benches.runpytest_inprocess(
        "--benchmark-only",
        "--peftbench-methods=full",
        "--peftbench-tasks=nli",
        "--peftbench-data=data",
        f"--peftbench-model={tiny_model}",
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in [*result.outlines, *result.errlines] if line.startswith("ERROR: peftbench: ")]
    assert said in line


def test_the_ini_file_and_the_table_count_and_the_command_line_wins(benches: pytest.Pytester) -> None:
    benches.makepyprojecttoml(
        """
        [tool.peftbench]
        methods = ["full", "lora(r=2)"]
        tasks = "ner"
        batch-sizes = [4]
        """
    )
    benches.makeini("[pytest]\npython_files = bench_*.py\npeftbench_tasks = qa\n")
    result = benches.runpytest_inprocess("--collect-only", "-q", "--peftbench-batch-sizes=1", "-k", "train_step")
    assert [line for line in result.outlines if "::" in line] == [
        "bench_all.py::train_step[full-qa-bs1]",
        "bench_all.py::train_step[lora(r=2)-qa-bs1]",
    ]


TYPED = """
peftbench_methods = ["full", "lora(r=2)"]
peftbench_tasks = "ner"
peftbench-batch-sizes = [4]
peftbench_seed = 3
peftbench_max_time = 0.5
peftbench_record = false
peftbench_strict = true
"""


@pytest.mark.parametrize(
    ("file", "table"),
    [
        ("pyproject.toml", "[tool.pytest]\npython_files = ['bench_*.py']"),
        ("pyproject.toml", "[tool.pytest.ini_options]\npython_files = 'bench_*.py'"),
        ("pytest.toml", "[pytest]\npython_files = ['bench_*.py']"),
        (".pytest.toml", "[pytest]\npython_files = ['bench_*.py']"),
        ("pyproject.toml", "[tool.peftbench]"),
    ],
)
def test_numbers_lists_and_booleans_stand_in_each_file(benches: pytest.Pytester, file: str, table: str) -> None:
    options = TYPED.replace("peftbench_", "").replace("peftbench-", "") if "peftbench" in table else TYPED
    (benches.path / file).write_text(table + options)
    if "peftbench" not in table:
        (benches.path / "tox.ini").unlink()
    benches.makeconftest(
        """
        from peftbench.plugin.hooks import BENCH

        def pytest_collection_finish(session):
            found = session.config.stash[BENCH].settings
            assert (found.seed, found.max_time, found.record, found.strict) == (3, 0.5, False, True)
        """
    )
    result = benches.runpytest_inprocess("--collect-only", "-q", "-W", "error", "-k", "train_step")
    assert [line for line in result.outlines if "::" in line] == [
        "bench_all.py::train_step[full-ner-bs4]",
        "bench_all.py::train_step[lora(r=2)-ner-bs4]",
    ]
    assert result.ret == 0


def test_an_override_on_the_command_line_wins_over_a_typed_file(benches: pytest.Pytester) -> None:
    (benches.path / "tox.ini").unlink()
    (benches.path / "pytest.toml").write_text("[pytest]\npython_files = ['bench_*.py']\npeftbench_batch_sizes = [4]\n")
    result = benches.runpytest_inprocess(
        "--collect-only", "-q", "--peftbench-methods=full", "--peftbench-tasks=nli", "-o", "peftbench_batch_sizes=2"
    )
    assert [line.rpartition("-")[2] for line in result.outlines if "::" in line] == ["bs2]", "bs2]"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[tool]\npeftbench = 3\n", "pyproject.toml: [tool.peftbench] must be a table of options, not 3"),
        (
            "[tool.peftbench]\nmethods = {a = 1}\n",
            "--peftbench-methods: must be text, a number, true or false, or a li",
        ),
        ("[tool.peftbench]\nmethods = [['full']]\n", "or a list of these, not [['full']]"),
        ("[tool.peftbench]\nseed = 2020-01-01\n", "or a list of these, not datetime.date(2020, 1, 1)"),
        ("[tool.peftbench]\nthreads = 1.5\n", "--peftbench-threads=1.5: must be a whole number"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(benches: pytest.Pytester, content: str, said: str) -> None:
    benches.makefile(".ini", pytest="[pytest]\npython_files = bench_*.py\n")
    benches.makepyprojecttoml(content)
    result = benches.runpytest_inprocess("--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert line.startswith("ERROR: peftbench: ")
    assert said in line


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--peftbench-threads=99999999999", "--peftbench-threads=99999999999: must be at most 4096"),
        (f"--peftbench-seed={'9' * 30}", f"--peftbench-seed={'9' * 30}: must be at most 9223372036854775807"),
        (f"--peftbench-seed={'9' * 5000}", "must be a whole number"),
        ("--peftbench-batch-sizes=999999999999", "must be at most 1000000"),
        (f"--peftbench-train-rows={10**30}", "must be at most 9223372036854775807"),
        ("--peftbench-seeds=1000000000", "must be at most 10000"),
        ("--peftbench-launch-timeout=1e300", "--peftbench-launch-timeout=1e300: must be at most 1000000000"),
        (f"--peftbench-shard=1/{10**30}", "must be like 3/16"),
        ("--peftbench-shard=a/b", "must be like 3/16"),
        (f"--peftbench-methods=lora{'(' * 5000}{')' * 5000}", "cannot be read: it is longer than 1000 characters"),
        (f"--peftbench-methods={'(' * 900}", "cannot be read: write `name` or `name(key=value,...)`"),
        (f"--peftbench-tasks={'(' * 5000}", "unknown task '((("),
        (f"-k{'(' * 5000}lora{')' * 5000}", "-k: brackets stand 5000 deep in each other: write at most 100"),
    ],
)
def test_values_beyond_all_bounds_are_one_short_line(run: Run, argument: str, said: str) -> None:
    result = run(argument, "--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert line.startswith("ERROR: peftbench: ")
    assert said in line
    assert len(line) < 600


def test_a_folder_called_like_a_preset_is_told_of(run: Run, benches: pytest.Pytester) -> None:
    benches.mkdir("tiny")
    result = run("-q", "--peftbench-model=tiny", "-k", "inference and full")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["peftbench: --peftbench-model=tiny is the preset, not the folder of this name; *./tiny"]
    )


def test_names_that_are_too_long_for_files_are_one_line(run: Run) -> None:
    name = "n" * 300
    for option in ("model", "data"):
        result = run(f"--peftbench-{option}={name}", "-k", "inference and full")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        (line,) = [line for line in [*result.outlines, *result.errlines] if line.startswith("ERROR: ")]
        assert line.startswith("ERROR: peftbench: ")


def test_a_part_of_very_many_is_found_at_once(run: Run) -> None:
    result = run("--collect-only", "-q", "--peftbench-shard=100000000/100000000")
    assert [line for line in result.outlines if "::" in line] == ["bench_all.py::inference[lora-nli-bs2]"]


def test_an_unknown_key_of_the_table_is_refused(benches: pytest.Pytester) -> None:
    benches.makepyprojecttoml("[tool.peftbench]\nmethod = 'full'\n")
    result = benches.runpytest_inprocess("--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: peftbench: unknown key*'method': did you mean 'methods'*"])


def test_the_default_matrix_keeps_groups_together(benches: pytest.Pytester) -> None:
    result = benches.runpytest_inprocess("--collect-only", "-q")
    ids = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert len(ids) == len(set(ids)) == 12 * 6 * 2 * 2
    groups = [re.sub(r".*-([a-z]+-bs\d+)\]", r"\1", name) for name in ids]
    changes = sum(first != second for first, second in pairwise(groups))
    assert changes == 6 * 2 - 1


def test_a_workload_that_is_not_selected_has_no_tests(run: Run) -> None:
    result = run("--collect-only", "-q", "--peftbench-workloads=inference")
    ids = [line for line in result.outlines if "::" in line]
    assert ids == ["bench_all.py::inference[full-nli-bs2]", "bench_all.py::inference[lora-nli-bs2]"]


def test_collecting_imports_no_torch(benches: pytest.Pytester) -> None:
    benches.makeconftest(
        """
        import sys

        def pytest_sessionfinish():
            assert not {"torch", "transformers", "peft", "datasets", "scipy", "rich.table"} & set(sys.modules)
        """
    )
    result = benches.runpytest_subprocess("--collect-only", "-q", "--peftbench-methods=all")
    assert result.ret == 0, result.stdout.str()


def test_resuming_takes_finished_cases_from_the_journal(run: Run, benches: pytest.Pytester) -> None:
    run("-k", "lora")
    journal = benches.path / ".peftbench" / "journal.jsonl"
    header, train_step, inference = journal.read_text().splitlines(keepends=True)
    journal.write_text(header + train_step + inference[:200])
    result = run("--peftbench-resume", "--peftbench-json=run.json", "-rs")
    result.assert_outcomes(passed=3, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*finished in the run that is resumed*"])
    found = records(benches.path / "run.json")
    assert set(found) == {
        f"{workload}[{method}-nli-bs2]" for workload in ("train_step", "inference") for method in ("full", "lora")
    }
    assert found["train_step[lora-nli-bs2]"] == json.loads(train_step)
    result.stdout.fnmatch_lines(["4 cases, 1 of them resumed, in * s; of this in timed rounds *"])
    added = math.fsum(
        record["passes_s"]["rounds"] for name, record in found.items() if name != "train_step[lora-nli-bs2]"
    )
    assert json.loads((benches.path / "run.json").read_text())["notes"]["passes_s"]["rounds"] == pytest.approx(added)


def test_a_journal_of_other_settings_is_refused(run: Run) -> None:
    run("-k", "train_step and full")
    result = run("--peftbench-resume", "--peftbench-seed=5")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: peftbench:*other settings (seed was 0, is 5)*"])


def test_benchmark_disable_tries_each_case_once_and_leaves_the_journal_alone(benches: pytest.Pytester) -> None:
    result = benches.runpytest_inprocess(
        "--benchmark-disable", "--peftbench-methods=full,lora", "--peftbench-tasks=nli", "--peftbench-batch-sizes=2"
    )
    result.assert_outcomes(passed=4)
    result.stdout.no_fnmatch_line("*= peftbench =*")
    assert not Path(benches.path / ".peftbench").exists()


def test_an_override_that_does_not_fit_is_one_line_when_rounds_are_only_tried_too(
    benches: pytest.Pytester,
) -> None:
    result = benches.runpytest_inprocess("--benchmark-disable", "--peftbench-methods=lora(rank=4)")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "'rank'" in result.stdout.str() + result.stderr.str()
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*UserError*")


def test_benchmark_skip_skips(benches: pytest.Pytester) -> None:
    result = benches.runpytest_inprocess("--benchmark-skip", "--peftbench-methods=full", "--peftbench-tasks=nli")
    result.assert_outcomes(skipped=4)


def test_autosave_and_compare_of_pytest_benchmark_work(run: Run) -> None:
    run("--benchmark-autosave", "-k", "inference")
    result = run("--benchmark-compare", "-k", "inference")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(["inference?full-nli-bs2? (NOW)*", "inference?full-nli-bs2? (0001_*"])


def test_without_pytest_benchmark_it_says_so(benches: pytest.Pytester) -> None:
    result = benches.runpytest_inprocess("-p", "no:benchmark", "--peftbench-methods=full", "--peftbench-tasks=nli")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: peftbench: pytest-benchmark*switched off*"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--peftbench-gate-rule=limit"], "--peftbench-gate-rule=limit: limit: write limit=VALUE"),
        (["--peftbench-gate-rule=limits=1"], "unknown constant 'limits': did you mean 'limit'?"),
        (["--peftbench-sampling-rate=0"], "--peftbench-sampling-rate=0: must be above 0"),
        (["--peftbench-sampling-rate=101"], "must be at most 100, since NVML renews its readings no more often"),
        (["--peftbench-energy=on"], "--peftbench-energy=on: device cpu has no energy counter; leave the option out"),
        (["--peftbench-execution=graph"], "replays CUDA graphs, and the device is cpu; give eager or compile"),
        (["--peftbench-compile"], "--peftbench-compile is gone: write --peftbench-execution compile"),
        (["--peftbench-gate-limit=0.03"], "--peftbench-gate-limit is gone: write --peftbench-gate-rule limit="),
    ],
)
def test_what_cannot_be_read_or_done_here_is_one_line(run: Run, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert line.startswith("ERROR: peftbench: ")
    assert said in line


def test_a_constant_in_the_ini_file_of_an_earlier_version_is_refused(benches: pytest.Pytester) -> None:
    benches.makeini("[pytest]\npeftbench_gate_limit = 0.03\n")
    result = benches.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: peftbench: peftbench_gate_limit is gone: write peftbench_gate_rule limit=*"])


def test_the_help_has_a_section_for_each_question(pytester: pytest.Pytester) -> None:
    text = pytester.runpytest_inprocess("--help").stdout.str()
    places = [text.index(f"peftbench: {question}:") for question in Question]
    assert places == sorted(places)
    assert "gate-limit" not in text
