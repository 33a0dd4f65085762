"""What a run leaves is its own, and survives a disk that is full."""

from pathlib import Path

import pytest
from tests.plugin.processes import World
from tests.plugin.running import Run, records

from peftbench.records import journal
from peftbench.records.workfolder import owned

LAUNCHED = ("--peftbench-launches=2", "--peftbench-methods=full,lora", "--peftbench-tasks=nli")


def one_error(result: pytest.RunResult) -> str:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in [*result.outlines, *result.errlines] if "ERROR: " in line or "outcomes.Exit: " in line]
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    return line


def test_a_second_run_with_launches_is_refused_while_the_first_goes_on(
    project: pytest.Pytester, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    play = world.run

    def run_another(*arguments: object, **more: object) -> object:
        if not told:
            told.append("")
            told[0] = one_error(project.runpytest_inprocess(*LAUNCHED))
        return play(*arguments, **more)  # type: ignore[arg-type] # as it was called

    monkeypatch.setattr("peftbench.processes.launches.launcher.run", run_another)
    project.runpytest_inprocess(*LAUNCHED, "--peftbench-json=run.json").assert_outcomes(passed=4)
    assert "another run (process " in told[0]
    assert "give this run another folder with --peftbench-work" in told[0]
    assert {len(record["launches"]) for record in records(project.path / "run.json").values()} == {2}
    project.runpytest_inprocess(*LAUNCHED).assert_outcomes(passed=4)


def test_a_folder_of_launches_that_is_somebody_elses_is_left_alone(project: pytest.Pytester) -> None:
    project.mkdir("mine").joinpath("launches").mkdir()
    thesis = project.path / "mine/launches/thesis.tex"
    thesis.write_text("years of work")
    assert "was not made by this release of peftbench" in one_error(
        project.runpytest_inprocess(*LAUNCHED, "--peftbench-work=mine")
    )
    assert thesis.read_text() == "years of work"


def test_a_run_without_launches_is_refused_too(run: Run, benches: pytest.Pytester) -> None:
    with owned(benches.path / ".peftbench"):
        assert "another run (process " in one_error(run("-k", "inference and lora"))


def test_a_full_disk_stops_the_run_in_one_line_and_resume_finds_what_was_finished(
    run: Run, benches: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = journal._write
    with monkeypatch.context() as patch:

        def write_or_not(descriptor: int, data: bytes) -> None:
            if b"train_step[lora" in data:
                write(descriptor, data[:99])
                raise OSError(28, "No space left on device")
            write(descriptor, data)

        patch.setattr(journal, "_write", write_or_not)
        result = run("--peftbench-methods=full,lora,head", "-k", "train_step")
        line = one_error(result)
        assert "train_step[lora-nli-bs2]: " in line
        assert "No space left on device" in line
    assert (benches.path / ".peftbench/journal.jsonl").read_bytes().endswith(b"}\n")
    result = run("--peftbench-methods=full,lora,head", "-k", "train_step", "--peftbench-resume")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["3 cases, 1 of them resumed, *"])


def test_lines_that_cannot_be_read_are_told_and_measured_again(run: Run, benches: pytest.Pytester) -> None:
    run("-k", "inference").assert_outcomes(passed=2)
    path = Path(benches.path / ".peftbench/journal.jsonl")
    head, first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + first[:200] + b"\n" + second)
    result = run("-k", "inference", "--peftbench-resume")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["peftbench: lines of the journal cannot be read, and are measured again: 2"])
