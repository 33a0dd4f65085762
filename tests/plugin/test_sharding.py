"""Parts of the cases, on several machines or GPUs."""

import json
from pathlib import Path

import pytest
from tests.plugin.processes import World
from tests.plugin.running import records

from peftbench import cli

ARGUMENTS = ("--peftbench-methods=full,lora", "--peftbench-tasks=nli,ner,copa", "--peftbench-launches=1")


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_inprocess("-p", "no:cacheprovider", *ARGUMENTS, *arguments)


def test_parts_are_disjoint_keep_groups_together_and_merge_to_the_whole(
    project: pytest.Pytester, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in (1, 2, 3, 4):
        result = run(project, f"--peftbench-shard={part}/4", f"--peftbench-json=shard{part}.json")
        assert result.ret == 0
        result.stdout.fnmatch_lines([f"peftbench: part {part} of 4: [24] of 12 cases"])
    for nodes in world.nodes:
        groups = [node.partition("-")[2] for node in nodes]
        assert all(groups.count(group) == 2 for group in groups)
    files = [str(project.path / f"shard{part}.json") for part in (3, 1, 2, 4)]
    whole = project.path / "run.json"
    assert cli.main(["merge", *files, "-o", str(whole)]) == 0
    assert len(records(whole)) == 12
    assert "shard" not in json.loads(whole.read_text())["notes"]
    assert cli.main(["merge", *files[1:], "-o", str(whole)]) == 1
    assert "missing: 2 cases, of shard 3 of 4" in capsys.readouterr().err
    assert cli.main(["merge", files[0], files[0], "-o", str(whole)]) == 2
    doubled = project.path / "again.json"
    doubled.write_text(Path(files[0]).read_text())
    assert cli.main(["merge", files[0], str(doubled), "-o", str(whole)]) == 2
    assert "a case may be in one run only" in capsys.readouterr().err


def test_more_parts_than_cases_leave_some_empty_and_none_failed(project: pytest.Pytester, world: World) -> None:
    result = run(project, "--peftbench-shard=1/20")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["peftbench: part 1 of 20: 0 of 12 cases"])
    assert world.nodes == []


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b"])
def test_a_part_that_is_none_is_refused(project: pytest.Pytester, text: str) -> None:
    result = run(project, f"--peftbench-shard={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: peftbench: --peftbench-shard={text}: *"])


def test_the_cases_of_a_launch_are_spread_over_gpus_and_joined(project: pytest.Pytester, world: World) -> None:
    result = run(project, "--peftbench-gpus=GPU-a,MIG-b", "--peftbench-json=run.json")
    assert result.ret == 0
    assert sorted(world.devices) == ["GPU-a", "MIG-b"]
    assert sorted(map(len, world.nodes)) == [4, 8] or sorted(map(len, world.nodes)) == [6, 6]
    assert len({node for nodes in world.nodes for node in nodes}) == len(records(project.path / "run.json")) == 12
    result.stdout.fnmatch_lines_random(["peftbench: launch 1 on GPU-a: * cases*", "peftbench: launch 1 on MIG-b: *"])


def test_a_gpu_that_is_not_there_is_refused(project: pytest.Pytester) -> None:
    result = run(project, "--peftbench-gpus=7")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: peftbench: --peftbench-gpus: no GPU '7'; there are all, *"])


def test_what_is_no_case_runs_in_the_first_part(project: pytest.Pytester, world: World) -> None:
    del world
    project.makepyfile(bench_other="def test_ordinary():\n    pass\n")
    for part, passed in ((1, 3), (2, 2)):
        methods = ("--peftbench-methods=full,lora", "--peftbench-tasks=nli,ner", "--peftbench-batch-sizes=1")
        result = run(project, *methods, f"--peftbench-shard={part}/2")
        result.assert_outcomes(passed=passed, deselected=5 - passed)
