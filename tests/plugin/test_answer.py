"""The end of a run on the terminal: what is printed, and in which order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.plugin.running import Run

from peftbench.cli import main

MIXED = "def test_own(benchmark):\n    benchmark(sum, range(10))\n"


def order(result: pytest.RunResult, *parts: str) -> list[int]:
    text = result.stdout.str()
    assert [text.count(part) for part in parts] == [1] * len(parts), text
    return [text.index(part) for part in parts]


def test_the_answer_follows_everything_and_tables_of_others_stay(benches: pytest.Pytester, run: Run) -> None:
    """Cases are left out of pytest-benchmark's tables; a benchmark that is no case, and its table, stay."""
    benches.makepyfile(test_own=MIXED)
    result = run("test_own.py", "bench_all.py")
    found = order(result, "= peftbench =", "- benchmark: 1 tests -", "= peftbench: the answer =", "Training: ")
    assert found == sorted(found)
    text = result.stdout.str()
    assert "test_own" in text
    assert "Name (time in" in text
    assert "benchmark 'train_step" not in text
    assert "train_step  nli, batch size 2, 16 tokens" in text


def test_an_option_for_pytest_benchmarks_output_brings_its_tables_back(benches: pytest.Pytester, run: Run) -> None:
    del benches
    text = run("--benchmark-sort=mean", "-k", "inference").stdout.str()
    found = [text.index(part) for part in ("= peftbench =", "- benchmark 'inference nli-bs2': 2", "the answer =")]
    assert found == sorted(found)


def show(capsys: pytest.CaptureFixture[str], file: Path, *options: str) -> str:
    capsys.readouterr()
    assert main(["show", str(file), *options]) == 0
    return capsys.readouterr().out


def test_the_blocks_of_many_groups_are_folded_unless_they_are_wanted(
    benches: pytest.Pytester, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    many = ("--peftbench-tasks=nli,ner,qa,copa", "--peftbench-methods=full,head", "--peftbench-rounds=2")
    result = run(*many)
    text = result.stdout.str()
    assert "batch size 2, 16 tokens" not in text
    assert "machine  " in text
    assert "16 cases in " in text
    folded = "8 tables are folded: -v prints them; peftbench show .peftbench/journal.jsonl prints each case"
    result.stdout.fnmatch_lines([folded, "*16 passed*"])
    shown = show(capsys, benches.path / ".peftbench/journal.jsonl")
    assert shown.index("train_step[head-copa-bs2]") < shown.index("Training: head takes ")
    file = benches.path / "run.json"
    again = run(*many, "-v", f"--peftbench-json={file}", "--peftbench-resume").stdout.str()
    assert again.count("batch size 2, 16 tokens") == 8
    assert again.count("Training: head takes ") == 1
    data = json.loads(show(capsys, file, "--format=json"))
    assert [one["method"] for one in data["answer"]["methods"]] == ["full", "head"]


def test_a_regression_that_pytest_benchmark_finds_hides_no_answer(benches: pytest.Pytester, run: Run) -> None:
    small = ("-k", "inference and lora", "--peftbench-rounds=2")
    run(*small, "--benchmark-autosave")
    slow = next(Path(benches.path).rglob("0001_*.json"))
    data = json.loads(slow.read_text())
    for one in data["benchmarks"]:
        one["stats"]["min"] = 1e-9
    slow.write_text(json.dumps(data))
    asked = ("--benchmark-compare", "--benchmark-compare-fail=min:1%", "--peftbench-tables=ours")
    result = run(*small, *asked)
    assert "Performance has regressed" in result.stdout.str() + result.stderr.str()
    assert result.ret != 0
    assert "One method was measured (lora), so nothing is compared" in result.stdout.str()
