"""A chain of lock-steps, kept and taken up again: pytest is played by a function that writes a comparison."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from peftbench.cli import main
from peftbench.errors import UserError
from peftbench.gate.compare import compare
from peftbench.gate.constants import Rule
from peftbench.gate.snapshot import CaseSnapshot, Snapshot
from peftbench.processes.git import git
from peftbench.processes.history import walk
from peftbench.processes.history.stages import listed, revisions
from peftbench.processes.launches.process import Command, Ending
from peftbench.processes.lockstep.states import Asked
from peftbench.report import exports

WHO = ("-c", "user.name=t", "-c", "user.email=t@example.org")
STATES = "--states=zz==1,zz==2,zz==3"
SLOWER = (0.098, 0.1, 0.102, 0.099, 0.101)
SAME = (0.001, -0.001, 0.0, 0.002, -0.002)


class Pytest:
    """Stands in for the pytest of a step, and for what makes a state ready."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.options: list[str] = []
        self.broken: set[str] = set()
        """States that cannot be installed."""
        self.fails: set[str] = set()
        """Newer states whose step yields nothing."""

    def run(self, command: Command, log: Path, *, more: Sequence[str]) -> Ending:
        given = dict(word.removeprefix("--peftbench-").split("=", 1) for word in more)
        assert command.arguments[1] == "-P"  # the folder in which a history is walked is no source of modules
        self.options = list(command.arguments[command.arguments.index("pytest") + 1 :])
        self.steps.append(f"{given['against']} -> {given['candidate']}")
        if given["candidate"] in self.fails:
            raise UserError("no such method")
        cases = {name: CaseSnapshot(counters={"flops": 1000.0}) for name in ("fast", "slow")}
        slow = SLOWER if given["candidate"] == "zz==2" else SAME
        old = {**cases, "late": CaseSnapshot(status="failed", reason="no import")}
        new = {**cases, "late": CaseSnapshot(counters={"flops": 1000.0})}
        found = compare(Snapshot({}, {}, old), Snapshot({}, {}, new), Rule(), pairs={"fast": SAME, "slow": slow})
        path = Path(given["diff-json"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(exports.to_json(found, fail_on=["regressed"]))
        return Ending("", 1.0, log)

    def other_state(self, asked: Asked, *_: object) -> None:
        if asked.text in self.broken:
            raise UserError(f"no package {asked.text}")


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pytest:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    found = Pytest()
    monkeypatch.setattr(walk, "run", found.run)
    monkeypatch.setattr(walk, "other_state", found.other_state)
    return found


Read = Callable[[], tuple[str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Read:
    """Return what was printed since, and what was told meanwhile."""

    def read() -> tuple[str, str]:
        found = capsys.readouterr()
        return found.out, found.err

    return read


def test_each_neighbouring_pair_is_compared_and_a_certain_change_is_marked(played: Pytest, said: Read) -> None:
    assert main(["history", STATES, "--", "benches", "-k", "lora"]) == 0
    assert played.steps == ["zz==1 -> zz==2", "zz==2 -> zz==3"]
    assert played.options[-3:] == ["benches", "-k", "lora"]
    out, err = said()
    (slow,) = (line for line in out.splitlines() if line.startswith("slow "))
    assert slow.count("SLOWER") == 1
    assert "+10.5 % [" in slow
    assert "slow, zz==1 -> zz==2: regressed" in out
    assert "fast," not in out
    assert "zz==2: 1 case new: was failed before (no import)" in out.splitlines()
    assert err.count("3 cases (") == 2


def test_a_narrow_terminal_cuts_nothing_off(played: Pytest, said: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    del played
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["history", STATES]) == 0
    out, _ = said()
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 40


def test_what_an_earlier_step_compared_is_not_taken_for_a_step_that_yields_nothing(
    played: Pytest, said: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del played
    main(["history", "--states=zz==1,zz==2", "--output=first.json"])
    (left,) = (tmp_path / ".peftbench" / "history").glob("*.json")
    assert left.exists()
    monkeypatch.setattr(walk, "run", lambda _, log, **__: Ending("", 1.0, log))  # it wrote no comparison
    said()
    assert main(["history", "--states=zz==2,zz==3", "--output=second.json"]) == 1
    assert "zz==2 -> zz==3: no case was compared; its output: " in said()[1]


def test_what_is_finished_is_not_made_again_and_a_longer_chain_goes_on(played: Pytest, said: Read) -> None:
    played.fails = {"zz==3"}
    assert main(["history", STATES]) == 1
    out, err = said()
    assert "zz==2 -> zz==3: no such method" in out
    assert "zz==2 -> zz==3: no such method" in err
    played.fails = set()
    assert main(["history", f"{STATES},zz==4"]) == 0
    assert played.steps[2:] == ["zz==2 -> zz==3", "zz==3 -> zz==4"]
    assert main(["history", f"{STATES},zz==4"]) == 0
    assert len(played.steps) == 4


def test_an_interrupted_history_keeps_what_is_finished(
    played: Pytest, said: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(command: Command, log: Path, *, more: Sequence[str]) -> Ending:
        if played.steps:
            raise KeyboardInterrupt
        return played.run(command, log, more=more)

    monkeypatch.setattr(walk, "run", interrupted)
    assert main(["history", STATES]) == 2
    assert "interrupted; history.json holds what is finished" in said()[1]
    monkeypatch.setattr(walk, "run", played.run)
    assert main(["history", STATES]) == 0
    assert played.steps == ["zz==1 -> zz==2", "zz==2 -> zz==3"]


def test_a_state_that_cannot_be_had_is_one_line_and_passed_over(played: Pytest, said: Read) -> None:
    played.broken = {"zz==2"}
    assert main(["history", f"{STATES},no-such-revision"]) == 1
    assert played.steps == ["zz==1 -> zz==3"]
    out, err = said()
    assert "zz==2 is left out: no package zz==2\n" in out
    assert [line for line in err.splitlines() if "left out" in line] == [
        "peftbench: zz==2 is left out: no package zz==2",
        *(
            line
            for line in err.splitlines()
            if "no-such-revision is left out: 'no-such-revision' is no revision" in line
        ),
    ]
    assert err.count("left out") == 2


def test_other_options_are_refused_before_anything_is_installed_and_what_is_there_stays(
    played: Pytest, said: Read, tmp_path: Path
) -> None:
    main(["history", STATES, "--", "--peftbench-max-time=2"])
    before = (tmp_path / "history.json").read_bytes()
    said()
    played.broken = {"zz==1"}
    assert main(["history", STATES, "--", "--peftbench-max-time=4"]) == 2
    out, err = said()
    assert (out, err.count("\n")) == ("", 1)
    assert "history.json: was made with other options (--peftbench-max-time=2): give the same ones" in err
    assert (tmp_path / "history.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--states=zz==1"], "names 1 state; a history needs two"),
        (["--states=zz==1,zz==2,zz==1"], "zz==1 is the same as a state before it"),
        (["--revisions=v1"], "give two revisions with two dots between: v1..HEAD"),
        (["--revisions=-x..HEAD"], "give two revisions"),
        (["--revisions=a..b"], "not a git repository"),
        ([STATES, "--every=0"], "must be at least 1"),
    ],
)
def test_what_is_no_chain_is_one_line(played: Pytest, said: Read, words: list[str], problem: str) -> None:
    assert main(["history", *words]) == 2
    out, err = said()
    assert (out, err.count("\n"), played.steps) == ("", 1, [])
    assert problem in err


def test_another_file_is_not_overwritten(played: Pytest, said: Read, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema": "peftbench/run/1"}')
    assert main(["history", STATES, "-o", "run.json"]) == 2
    assert "run.json: is no peftbench/history file" in said()[1]
    assert (tmp_path / "run.json").read_text() == '{"schema": "peftbench/run/1"}'
    assert played.steps == []


def test_credentials_reach_pytest_and_no_file(played: Pytest, said: Read, tmp_path: Path) -> None:
    secret = "zz@https://me:s3cret@example.org/zz.whl"
    assert main(["history", f"--states={secret},zz==3"]) == 0
    assert played.steps == [f"{secret} -> zz==3"]
    files = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "s3cret" not in files + "".join(said())
    assert "https://***@example.org" in files


@pytest.mark.parametrize("format_", ["table", "markdown", "json", "csv"])
def test_a_history_is_shown_in_every_format(played: Pytest, said: Read, format_: str) -> None:
    main(["history", STATES])
    said()
    del played
    assert main(["show", "history.json", "--format", format_]) == 0
    out, _ = said()
    if format_ == "json":
        slow = [row for row in json.loads(out)["rows"] if row["case"] == "slow"]
        assert [(row["new"], row["certain"]) for row in slow] == [("zz==2", True), ("zz==3", False)]
    else:
        assert "zz==3" in out
        assert out.replace("\\", "").count("slow") > 1
    assert main(["show", "history.json", "--textconv"]) == 0
    assert "slow  zz==1  zz==2  kind  SLOWER" in said()[0].splitlines()


@pytest.mark.parametrize("words", [["-q", "{0}/benches::x"], ["--rootdir={0}", "-q"], ["--rootdir", "{0}", "benches"]])
def test_revisions_are_those_of_the_project_that_pytest_measures(
    played: Pytest, said: Read, tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    project = tmp_path_factory.mktemp("project")
    (project / "benches").mkdir()
    git(project, "init", "-q")
    for number in range(2):
        git(project, *WHO, "commit", "-q", "--allow-empty", "-m", f"change {number}")
    assert main(["history", "--revisions=HEAD~1..HEAD", "--", *(word.format(project) for word in words)]) == 0
    assert len(played.steps) == 1
    assert "change 1" in said()[0]


def test_a_state_with_commas_is_one_state(tmp_path: Path) -> None:
    found = listed("zz>=1,<2, yy[a,b]==1 ,zz==3", tmp_path)
    assert [one.text for one in found] == ["zz>=1,<2", "yy[a,b]==1", "zz==3"]


def test_a_range_gives_both_ends_and_every_nth_commit_along_first_parents(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    for number in range(6):
        git(tmp_path, *WHO, "commit", "-q", "--allow-empty", "-m", f"change {number}")
        if number == 3:
            git(tmp_path, "checkout", "-q", "-b", "side")
            git(tmp_path, *WHO, "commit", "-q", "--allow-empty", "-m", "aside")
            git(tmp_path, "checkout", "-q", "main")
            git(tmp_path, *WHO, "merge", "-q", "--no-ff", "-m", "merge", "side")
    found = revisions("HEAD~6..HEAD", 2, tmp_path)
    assert [one.stage.about for one in found] == ["change 0", "change 2", "merge", "change 5"]
    assert [one.stage.about for one in revisions("HEAD~1..", 5, tmp_path)] == ["change 4", "change 5"]
    assert found[-1].text == found[-1].stage.identity == git(tmp_path, "rev-parse", "HEAD")
