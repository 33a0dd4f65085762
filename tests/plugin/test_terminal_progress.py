"""Progress between cases: a line that changes on a terminal, a line a group elsewhere."""

import os
import pty
import subprocess
import sys

import pytest
from tests.plugin.conftest import SMALL
from tests.plugin.running import Run


def test_elsewhere_a_line_for_each_group(run: Run) -> None:
    result = run("--peftbench-batch-sizes=1,2", "-k", "inference")
    result.stdout.fnmatch_lines(["peftbench: 2 of 4 cases, about * left", "peftbench: 4 of 4 cases"])


def test_on_a_terminal_one_line_that_changes(benches: pytest.Pytester) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest", *SMALL, "-k", "inference", "-p", "no:cacheprovider"]
    with subprocess.Popen(command, cwd=benches.path, stdout=theirs, stderr=theirs, stdin=theirs):
        os.close(theirs)
        output = b""
        while chunk := _read(ours):
            output += chunk
    os.close(ours)
    text = output.decode()
    assert "\r1 of 2 cases, about " in text
    assert "\r2 of 2 cases; last: inference[lora-nli-bs2]" in text


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""
