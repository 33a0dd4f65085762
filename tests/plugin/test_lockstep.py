"""Two revisions of a little repository in lock-step, in real processes; a stand-in takes the place of models."""

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
from tests.plugin.running import Run
from tests.plugin.test_launches import ARGUMENTS, BENCH, ROOT, UNDERLYING

from peftbench.processes.launches.assignment import OPTION, Assignment
from peftbench.processes.lockstep.channel import Channel

SLOWER = UNDERLYING.replace("100", "101").replace("20_000", "100_000")


@pytest.fixture
def repository(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> pytest.Pytester:
    """A repository whose work tree differs from its only commit, and a cache of its own."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path / "src"), str(ROOT / "src"), str(ROOT)]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(test_bench=BENCH, **{"src/underlying": UNDERLYING})
    (pytester.path / ".gitignore").write_text(".peftbench/\n__pycache__/\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], cwd=pytester.path, check=True)
    return pytester


def test_a_slower_work_tree_is_found_against_its_commit(repository: pytest.Pytester) -> None:
    (repository.path / "src/underlying.py").write_text(SLOWER)
    result = repository.runpytest_subprocess(
        *ARGUMENTS,
        "-k",
        "lora or ordinary",
        "--peftbench-against=HEAD",
        "--peftbench-pairs=2",
        "--peftbench-gate-rule=launches=2",
        "--peftbench-gate-rule=more-launches=0",
        "--peftbench-diff-json=diff.json",
        "--peftbench-json=run.json",
    )
    result.assert_outcomes(passed=1, failed=1)
    diff = json.loads((repository.path / "diff.json").read_text())
    (case,) = diff["cases"]
    assert case["verdict"] == case["time"]["verdict"] == "regressed"
    assert case["time"]["low"] > 1  # five times the work
    assert [(change["name"], change["before"], change["after"]) for change in case["counters"]] == [("flops", 100, 101)]
    result.stdout.fnmatch_lines(
        ["peftbench: pair 1: 1 case", "this checkout in lock-step with HEAD", "Failed: 1 of 1*"]
    )
    (record,) = json.loads((repository.path / "run.json").read_text())["records"]
    assert [launch["x"] > 0.7 for launch in record["launches"]] == [True, True]
    assert record["metrics"]["against"]["value"] > 2


def test_a_gate_in_a_pre_commit_hook_leaves_the_unfinished_commit_alone(repository: pytest.Pytester) -> None:
    words = [*ARGUMENTS, "--peftbench-against=HEAD", "--peftbench-pairs=2", "--peftbench-gate-more-launches=0"]
    command = shlex.join([sys.executable, "-m", "pytest", "-k", "lora", *words])
    hook = repository.path / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{command} > hook.txt || cat hook.txt\n")
    hook.chmod(0o755)
    (repository.path / "src/underlying.py").write_text(SLOWER)
    (repository.path / "unfinished.txt").write_text("an edit")

    def git(*words: str) -> str:
        call = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words]
        return subprocess.run(call, cwd=repository.path, check=True, capture_output=True, text=True).stdout

    git("commit", "-qam", "slower")
    assert "this checkout in lock-step with HEAD" in (repository.path / "hook.txt").read_text()
    assert "101" in (repository.path / "hook.txt").read_text()
    assert git("show", "HEAD:src/underlying.py") == (repository.path / "src/underlying.py").read_text() == SLOWER
    assert git("status", "--porcelain").split() == ["??", "hook.txt", "??", "unfinished.txt"]
    assert git("worktree", "list").count("\n") == 1


def test_a_history_walks_from_commit_to_commit_and_does_not_look_at_this_checkout(
    repository: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text, message in ((UNDERLYING.replace("100", "101"), "more"), (SLOWER.replace("101", "102"), "slower")):
        (repository.path / "src/underlying.py").write_text(text)
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", message],
            cwd=repository.path,
            check=True,
        )
    (repository.path / "src/underlying.py").write_text("this is no Python")
    few = ("--peftbench-pairs=2", "--peftbench-gate-more-launches=0", "--peftbench-gate-launches=2", "-k", "lora")
    words = ("history", "--revisions=HEAD~2..", "--format=json", "--", "test_bench.py", *ARGUMENTS, *few)
    monkeypatch.setenv("COLUMNS", "200")
    result = repository.run(sys.executable, "-m", "peftbench.cli", *words)
    assert result.ret == 0
    rows = json.loads(result.stdout.str())["rows"]
    assert [row["counters"]["flops"] for row in rows] == [[100, 101], [101, 102]]
    assert [row["kind"] for row in rows] == ["MORE", "SLOWER"]
    assert rows[1]["low"] > 1
    result.stderr.fnmatch_lines(["peftbench: * -> *: 1 case (1 regressed), * s"] * 2)


def test_the_commit_that_made_a_case_slower_is_found_with_the_suspects_alone(repository: pytest.Pytester) -> None:
    texts = [UNDERLYING.replace("20_000", "20_001"), SLOWER]
    for number, text in enumerate(texts, start=1):
        (repository.path / "src/underlying.py").write_text(text)
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", f"change {number}"],
            cwd=repository.path,
            check=True,
        )
    few = ("--peftbench-pairs=2", "--peftbench-gate-more-launches=0", "--peftbench-gate-launches=2", "-k", "lora")
    words = ("--peftbench-against=HEAD~2", "--peftbench-bisect", "--peftbench-diff-json=diff.json")
    result = repository.runpytest_subprocess(*ARGUMENTS, *few, *words)
    result.assert_outcomes(failed=1)
    (origin,) = json.loads((repository.path / "diff.json").read_text())["bisect"]
    assert origin["case"] == "train_step[lora-nli-bs2]"
    assert origin["at"].endswith(" change 2 (this checkout)")
    assert origin["before"].endswith(" change 1")
    result.stdout.fnmatch_lines(
        [
            "peftbench: bisect: 1 case worse, 1 state between",
            "peftbench: bisect: * change 1: train_step?lora-nli-bs2? *",
            "train_step?lora-nli-bs2?: first worse at * change 2 (this checkout); not yet at * change 1",
        ]
    )


CONFTEST = """
from peftbench.matrix.catalogue import Catalogue
from dataclasses import replace

def pytest_peftbench_methods():
    return [replace(Catalogue.load().method("lora"), name="mine")]
"""


@pytest.mark.parametrize("named", ["file", "test"])
def test_what_only_this_checkout_has_is_new(repository: pytest.Pytester, named: str) -> None:
    """A method; and a file (no case is left to the base), or a test besides one that both have."""
    repository.makeconftest(CONFTEST)
    repository.makepyfile(test_bench=f"{BENCH}\ndef test_more(): pass\n", test_new=BENCH)
    cases = {
        "file": ["test_new.py"],
        "test": ["test_bench.py::train_step[mine-nli-bs2]", "test_bench.py::train_step[lora-nli-bs2]"],
    }
    result = repository.runpytest_subprocess(
        *ARGUMENTS,
        "--peftbench-methods=mine,lora",
        "--peftbench-against=HEAD",
        "--peftbench-pairs=2",
        "--peftbench-gate-rule=more-launches=0",
        "--peftbench-diff-json=diff.json",
        *cases[named],
    )
    assert result.ret == 0
    verdicts = {
        case["id"]: case["verdict"] for case in json.loads((repository.path / "diff.json").read_text())["cases"]
    }
    new = ["mine", "lora"] if named == "file" else ["mine"]
    assert {name for name, verdict in verdicts.items() if verdict == "new"} == {
        f"train_step[{method}-nli-bs2]" for method in new
    }
    assert len(verdicts) == 2


def test_a_child_answers_with_real_rounds_and_a_record(run: Run, benches: pytest.Pytester) -> None:
    ours, theirs = socket.socketpair()
    node = "bench_all.py::train_step[lora-nli-bs2]"
    assignment = Assignment(session="day", nodes=(node,), folder=str(benches.path / "child"), socket=theirs.fileno())
    path = assignment.write()
    theirs.detach()  # the child's now
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        channel = Channel(ours)
        rounds: list[dict[str, Any]] = [{"do": "round", "number": number} for number in range(4)]
        answers.append(channel.receive())
        answers.extend(map(channel.ask, [{"do": "case", "node": node}, *rounds, {"do": "done"}]))
        channel.close()

    parent = threading.Thread(target=ask)
    parent.start()
    result = run(f"{OPTION}={path}", "--peftbench-gate", "--peftbench-json=never.json", "--benchmark-json=never.json")
    parent.join()
    result.assert_outcomes(passed=1, deselected=3)
    hello, ready, *rounds, done = answers
    assert hello["nodes"] == [node]
    assert hello["settings"]["reference"] == "none"
    assert ready["ready"]["exactly"] == 3
    assert all(answer["wall_s"] > 0 for answer in rounds)
    assert done["stray"] == ""
    (launch,) = done["record"]["launches"]
    assert launch["rounds"] == 4
    assert "x" not in launch
    assert done["record"]["metrics"]["flops"]["value"] > 0
    assert not (benches.path / "never.json").exists()
