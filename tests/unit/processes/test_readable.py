"""`git diff` of a baseline, before and after the two lines that make it readable."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench.gate.format import to_text
from peftbench.gate.snapshot import CaseSnapshot, Profile, Session, Snapshot
from peftbench.processes.git import git
from peftbench.processes.readable import ATTRIBUTE, COMMAND, project, readable_diffs

ROOT = Path(__file__).parents[3]
CASE = "train_step[lora-nli-bs8]"


def baseline(saved: int, clones: int) -> str:
    case = CaseSnapshot(
        {"1": (0.21,)}, 40, 0.0124, {"flops": 1000, "saved_bytes": saved}, Profile({"aten::clone": clones})
    )
    return to_text(Snapshot({"device": "cpu"}, {"model": "tiny"}, {CASE: case}, sessions={"1": Session("day")}))


def test_baselines_are_looked_for_where_pytest_has_its_root(tmp_path: Path) -> None:
    inner = tmp_path / "project/benches/deep"
    inner.mkdir(parents=True)
    assert project(inner) in (inner, *inner.parents)  # whatever is above the folder of this test
    for made in (tmp_path / "project/pytest.ini", tmp_path / "project/benches/setup.cfg"):
        made.touch()
        assert project(inner) == made.parent
    (inner / "baselines").mkdir()
    assert project(inner) == inner


def test_two_lines_make_a_diff_readable_and_the_doctor_says_which_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    assert readable_diffs(tmp_path) == []  # no repository
    git(tmp_path, "init", "-q")
    file = tmp_path / "baselines/cpu.json"
    file.parent.mkdir()
    file.write_text(baseline(4_200_000, 1))
    git(tmp_path, "add", "baselines")
    assert [re.findall(r"\.gitattributes|git config", line) for line in readable_diffs(tmp_path)] == [
        [".gitattributes"],
        ["git config"],
    ]
    (tmp_path / ".gitattributes").write_text(f"{ATTRIBUTE}\n")
    assert len(readable_diffs(tmp_path)) == 1
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)]))
    program = tmp_path / "bin/peftbench"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m peftbench.cli "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    subprocess.run(shlex.split(COMMAND), cwd=tmp_path, check=True)
    assert readable_diffs(tmp_path) == ["`git diff baselines/` is readable here: .gitattributes and git config are set"]
    file.write_text(baseline(4_250_000, 3))
    diff = subprocess.run(["git", "diff", "-U0"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert {line for line in diff.splitlines() if re.match(r"[-+](?![-+])", line)} == {
        f"-{CASE}  saved_bytes  4,200,000",
        f"+{CASE}  saved_bytes  4,250,000",
        f"-{CASE}  operators  aten::clone  1",
        f"+{CASE}  operators  aten::clone  3",
    }
    file.write_text("<<<<<<< a conflict\n")
    diff = subprocess.run(["git", "diff", "-U0"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "+<<<<<<< a conflict" in diff


def test_this_project_has_the_line_that_is_committed() -> None:
    assert ATTRIBUTE in (ROOT / ".gitattributes").read_text().splitlines()
