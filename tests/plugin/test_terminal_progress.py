"""Progress between cases: a line that changes on a terminal, a line a group elsewhere."""

import os
import pty
import re
import subprocess
import sys

import pytest
from tests.plugin.conftest import SMALL
from tests.plugin.running import Run


def test_elsewhere_a_line_for_each_group(run: Run) -> None:
    result = run("--peftbench-batch-sizes=1,2", "-k", "inference")
    result.stdout.re_match_lines(
        [
            r"peftbench: 2 of 4 cases, about .* left; nli-bs1: inference [\d.]+ \(\w+\) to [\d.]+ ms \(\w+\)$",
            r"peftbench: 4 of 4 cases; nli-bs2: inference ",
        ]
    )


def on_a_terminal(benches: pytest.Pytester) -> str:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest", *SMALL, "-k", "inference", "-p", "no:cacheprovider"]
    environ = {**os.environ, "COLUMNS": "200", "CI": ""}
    with subprocess.Popen(command, cwd=benches.path, stdout=theirs, stderr=theirs, stdin=theirs, env=environ):
        os.close(theirs)
        output = b""
        while chunk := _read(ours):
            output += chunk
    os.close(ours)
    return output.decode()


def test_on_a_terminal_one_line_that_changes_with_each_pass(benches: pytest.Pytester) -> None:
    text = on_a_terminal(benches)
    for done, case in enumerate(("inference[full-nli-bs2]", "inference[lora-nli-bs2]")):
        passes = ("build", "validity", "first step", "memory", "counters", "time")
        found = [text.find(f"{case}: {name}") for name in passes]
        assert min(found) > 0
        assert found == sorted(found)
        assert f"\r{done + 1} of 2 cases" in text
        assert f"{case}: rounds" not in text
    assert "\r1 of 2 cases, about " in text
    assert re.search(r"\r2 of 2 cases; nli-bs2: inference [\d.]+ \(\w+\) to [\d.]+ ms", text)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""
