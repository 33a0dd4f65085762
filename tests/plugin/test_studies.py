"""Studies in real pytest runs: trainings that are measured, resumed and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.plugin.running import records

from peftbench.cli import main

STUDIES = """
from peftbench import bench

@bench("convergence")
def convergence(peft_case):
    peft_case.measure()
"""
SMALL = (
    "--peftbench-methods=pfeiffer,full",
    "--peftbench-tasks=nli",
    "--peftbench-batch-sizes=8",
    "--peftbench-seq-len=32",
    "--peftbench-epochs=0.4",
    "--peftbench-learning-rates=1e-3,1e-2",
    "--peftbench-seeds=2",
)
Study = Callable[..., pytest.RunResult]


@pytest.fixture
def study(benches: pytest.Pytester, tiny_model: Path, tiny_data: Path) -> Study:
    """Runs the trainings of two methods from two seeds at two learning rates, named by their file."""
    benches.makepyfile(bench_studies=STUDIES)
    source = (f"--peftbench-model={tiny_model}", f"--peftbench-data={tiny_data}")
    return lambda *arguments: benches.runpytest_inprocess("bench_studies.py", *SMALL, *source, *arguments)


def test_trainings_are_recorded_with_their_curves_and_full_comes_first(study: Study, benches: pytest.Pytester) -> None:
    result = study("--peftbench-json=run.json")
    found = records(benches.path / "run.json")
    assert list(found)[:3] == [
        "convergence[full-nli-bs8-seed0-lr0.001]",
        "convergence[full-nli-bs8-seed0-lr0.01]",
        "convergence[full-nli-bs8-seed1-lr0.001]",
    ]
    for record in found.values():
        assert record["status"] == "ok"
        assert not [line for line in record["warnings"] if line.startswith("changed ")]
        assert record["curve"][-1]["step"] == record["metrics"]["steps"]["value"] == 2
        assert record["stop"] == "budget"
    # The second seed is trained at the first rate, which is everybody's, and at the best of the first seed.
    pruned = 8 - len(found)
    result.assert_outcomes(passed=8 - pruned, skipped=pruned)
    assert json.loads((benches.path / "run.json").read_text())["settings"]["epochs"] == 0.4


def test_a_run_that_was_killed_goes_on_with_the_next_training(study: Study, benches: pytest.Pytester) -> None:
    few = ("--peftbench-learning-rates=1e-2", "--peftbench-methods=full", "--peftbench-json=run.json")
    study(*few)
    first = records(benches.path / "run.json")
    journal = benches.path / ".peftbench" / "journal.jsonl"
    header, one, other = journal.read_text().splitlines(keepends=True)
    journal.write_text(header + one + other[:100])  # killed while the second record was being written
    result = study(*few, "--peftbench-resume")
    result.assert_outcomes(passed=1, skipped=1)
    second = records(benches.path / "run.json")
    assert list(second) == list(first)
    assert second["convergence[full-nli-bs8-seed0-lr0.01]"] == first["convergence[full-nli-bs8-seed0-lr0.01]"]
    again, before = (found["convergence[full-nli-bs8-seed1-lr0.01]"]["curve"] for found in (second, first))
    assert [point["quality"] for point in again] == [point["quality"] for point in before]
    assert [point["loss"] for point in again] == [point["loss"] for point in before]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--peftbench-model=tiny", "--peftbench-data=synthetic"],
            "needs trained weights, and those of preset 'tiny' are random",
        ),
        (["--peftbench-data=synthetic"], "needs real data, synthetic labels are random"),
        (["--peftbench-metric=f1"], "unknown metric of task 'nli': 'f1'"),
        (["--peftbench-target=1.5"], "--peftbench-target=1.5: target 1.5 is above what is possible"),
        (["--peftbench-stop=target", "--peftbench-methods=lora"], "needs full fine-tuning: add full"),
        (["--peftbench-test-data=test.zz"], "--peftbench-test-data=test.zz: no such set for nli"),
        (["--peftbench-tasks=copa"], "no data for task 'copa'"),
    ],
)
def test_what_cannot_be_done_is_one_line_before_anything_is_trained(
    study: Study, arguments: list[str], message: str
) -> None:
    result = study(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*peftbench: *{message}*"])
    assert not any("Traceback" in line for line in (*result.outlines, *result.errlines))


@pytest.mark.parametrize(
    ("split", "rows", "message"),
    [
        ("validation", [], "*validation.jsonl has no rows"),
        (
            "validation",
            [{"premise": "a", "hypothesis": "b", "label": 1}] * 3,
            "*validation.jsonl: all 3 rows are of the class 'neutral', so any model that answers it is perfect; give*",
        ),
        ("train", [{"premise": "a", "hypothesis": "b", "label": 3}], "*train.jsonl, line 1: label is 3, not one of*"),
        ("other", [{"premise": "a", "hypothesis": "b", "label": "no"}], "*other.jsonl, line 1: label is 'no', not*"),
    ],
)
def test_data_that_cannot_be_used_are_refused_with_the_place(
    study: Study, tmp_path: Path, tiny_data: Path, split: str, rows: list[dict[str, object]], message: str
) -> None:
    folder = tmp_path / "nli"
    folder.mkdir()
    for name in ("train", "validation"):
        (folder / f"{name}.jsonl").write_text((tiny_data / "nli" / f"{name}.jsonl").read_text())
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = study(f"--peftbench-data={tmp_path}", "--peftbench-test-data=other" if split == "other" else "-v")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*peftbench: {message}*"])


def test_studies_run_only_when_they_are_asked_for(study: Study, benches: pytest.Pytester) -> None:
    del study
    collected = benches.runpytest_inprocess("--collect-only", "-q", "--peftbench-methods=full")
    collected.stdout.no_fnmatch_line("*convergence*")
    asked = benches.runpytest_inprocess("--collect-only", "-q", "--peftbench-workloads=convergence")
    asked.stdout.fnmatch_lines(["*convergence[[]full-nli-bs32-seed2-lr3e-05]"])


def test_without_measuring_each_training_takes_one_step(study: Study) -> None:
    study("--benchmark-disable", "--peftbench-learning-rates=1e-2", "--peftbench-seeds=1").assert_outcomes(passed=2)


def test_a_server_under_offered_loads_is_recorded_shown_and_resumed(
    benches: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    benches.makepyfile(bench_serving=STUDIES.replace("convergence", "deployment"))
    few = ("--benchmark-only", "--peftbench-methods=lora", "--peftbench-tasks=nli", "--peftbench-batch-sizes=2")
    more = ("--peftbench-seq-len=16", "--peftbench-serve=2", "--peftbench-requests=20", "-k", "byswitch")
    asked = ("bench_serving.py", *few, *more, "--peftbench-json=run.json")
    refused = benches.runpytest_inprocess(*asked, "--peftbench-offered-load=50%,many")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["ERROR: peftbench: --peftbench-offered-load=50%,many: *"])
    result = benches.runpytest_inprocess(*asked, "--peftbench-offered-load=1000%,50%")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["deployment  nli-bs2: offered loads*", "method *offered/s *answered/s *"])
    (record,) = records(benches.path / "run.json").values()
    below, above = record["loads"]
    assert above["offered_per_s"] == pytest.approx(20 * below["offered_per_s"])
    assert (
        above["achieved_per_s"] < 0.9 * above["offered_per_s"] == 0.9 * record["metrics"]["starvation_per_s"]["value"]
    )
    assert main(["show", str(benches.path / "run.json")]) == 0
    assert "offered loads (!: less than 90 % answered)" in capsys.readouterr().out
    again = benches.runpytest_inprocess(*asked, "--peftbench-offered-load=50%", "--peftbench-resume")
    assert again.ret == pytest.ExitCode.USAGE_ERROR  # other loads are another question
    again.stderr.fnmatch_lines(["*offered_load*"])


def test_adapters_of_two_tasks_are_merged_and_scored_and_the_end_points_are_what_they_say(
    study: Study, benches: pytest.Pytester
) -> None:
    benches.makepyfile(bench_studies=STUDIES.replace("convergence", "merging"))
    asked = ("--peftbench-methods=lora", "--peftbench-merge=cat,linear")
    few = ("--peftbench-seeds=1", "--peftbench-learning-rates=1e-2", "--peftbench-json=run.json")
    alone = study(*asked, *few)
    assert alone.ret == pytest.ExitCode.USAGE_ERROR
    alone.stderr.fnmatch_lines(["*peftbench: *merging*tasks*"])
    result = study(*asked, *few, "--peftbench-tasks=nli,sentiment")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["merging  nli+sentiment-bs8*", "method*way*"])
    found = {record["variant"]["by"]: record for record in records(benches.path / "run.json").values()}
    assert list(found) == ["own", "cat", "linear", "heads"]
    metric = {way: {name: one["value"] for name, one in record["metrics"].items()} for way, record in found.items()}
    assert metric["own"]["quality_ratio"] == metric["own"]["bytes_ratio"] == 1
    stored = {way: own["stored_bytes"] - metric["heads"]["stored_bytes"] for way, own in metric.items()}
    assert stored["own"] == stored["cat"] == 2 * stored["linear"] > 0  # `cat` keeps the factors of both adapters
    assert {way for way, own in metric.items() if own["merge_s"] is None} == {"own", "heads"}
    assert len({own["training_s"] for own in metric.values()}) == 1  # trained once for all ways
    result.stdout.fnmatch_lines(["lora *own *1.00 *1.00 *", "lora *linear *", "lora *heads *"])
    again = study(*asked, *few, "--peftbench-tasks=nli,sentiment", "--peftbench-resume")
    assert records(benches.path / "run.json") == {record["id"]: record for record in found.values()}
    again.assert_outcomes(skipped=4)
