"""Runs that are killed at random moments and resumed: a handful of what tools/kill_test.py does by the hundred."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="it has neither sessions nor these signals")
def test_a_handful_of_kills_loses_nothing_and_leaves_nothing() -> None:
    command = [sys.executable, str(ROOT / "tools" / "kill_test.py"), "--stand-in", "--kills=3", "--seed=7"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "\n3 kills, " in f"\n{ended.stdout}"
    assert ended.stdout.rstrip().endswith(" 0 faults")
