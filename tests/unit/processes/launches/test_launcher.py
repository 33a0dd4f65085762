"""What a launch that ends badly leaves: the second table of docs/faults.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from peftbench.processes.launches.launcher import Launcher, Target
from peftbench.processes.launches.process import Command
from peftbench.records.journal import Journal
from peftbench.records.record import Record, Run
from peftbench.records.runfile import save_run

CHILD = """
import json, os, shutil, signal, sys, time
folder = json.load(open(sys.argv[1].partition("=")[2]))["folder"]
shutil.copy("finished.jsonl", folder + "/journal.jsonl")
{deed}
"""
TARGETS = [Target("a", "bench.py::a", "g"), Target("b", "bench.py::b", "g")]


@pytest.mark.parametrize(
    ("deed", "problem"),
    [
        ("time.sleep(600)", "took longer than 1 s and was killed"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "was killed by SIGTERM"),
        ("print('boom'); sys.exit(3)", "ended with status 3: boom"),
    ],
)
def test_a_launch_that_ends_badly_keeps_what_it_had_finished(deed: str, problem: str, tmp_path: Path) -> None:
    finished = tmp_path / "finished.jsonl"
    journal = Journal(finished, {"settings": {"model": "tiny"}, "fingerprint": {}})
    journal.append(Record("a", "train_step", "lora", "nli", 1, seq_len=8, status="ok"))
    journal.close()
    with finished.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "b"})[:-3])  # cut off
    said: list[str] = []
    timeout_s = 1.0 if "sleep" in deed else 60.0
    command = Command(arguments=(sys.executable, "-c", CHILD.format(deed=deed)), folder=tmp_path, timeout_s=timeout_s)
    launcher = Launcher(command=command, folder=tmp_path / "launches", session="s", say=said.append)
    runs = launcher.launch(TARGETS, 2)
    assert [[record.id for record in run.records] for run in runs] == [["a"], ["a"]]
    assert said == [
        f"launch {number} {problem} after 1 of 2 cases; its output: {tmp_path}/launches/{number}/log.txt"
        for number in (1, 2)
    ]


def test_what_an_earlier_launch_wrote_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    folder = tmp_path / "launches" / "1"
    save_run(Run({}, {}, (Record("a", "train_step", "lora", "nli", 1, seq_len=8, status="ok"),)), folder / "run.json")
    command = Command(arguments=(sys.executable, "-c", ""), folder=tmp_path)
    said: list[str] = []
    launcher = Launcher(command=command, folder=tmp_path / "launches", session="s", say=said.append, resume=True)
    assert launcher.launch(TARGETS, 1) == []
    assert said == [f"launch 1 yielded no record after 0 of 2 cases; its output: {folder}/log.txt"]
