import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peftbench.errors import UserError
from peftbench.processes.launches.process import Command, deadline, describe, last_line, run, started


def python(code: str, folder: Path, **more: float) -> Command:
    return Command(arguments=(sys.executable, "-c", code), folder=folder, **more)  # type: ignore[arg-type] # a timeout


def test_a_child_that_ends_in_order_has_no_problem_and_a_log(tmp_path: Path) -> None:
    ending = run(python("import os, sys; print(os.getcwd(), sys.argv[1])", tmp_path), tmp_path / "a/log", more=["x"])
    assert ending.problem == ""
    assert ending.log.read_text().split() == [str(tmp_path), "x"]


def test_a_child_does_not_inherit_the_repository_of_a_git_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_INDEX_FILE", "of-an-unfinished-commit")
    monkeypatch.setenv("MINE", "kept")
    code = "import os; print(os.environ.get('GIT_INDEX_FILE'), os.environ['MINE'])"
    assert run(python(code, tmp_path), tmp_path / "log").log.read_text().split() == ["None", "kept"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("import os; os.abort()", "was killed by SIGABRT"),
        ("import sys; print('boom'); sys.exit(3)", "ended with status 3: boom"),
        ("import sys; print('! boom !'); sys.exit(2)", "was interrupted: boom"),
        ("import sys; sys.exit(1)", ""),
        ("import sys; sys.exit(5)", ""),
    ],
)
def test_what_became_of_a_child_is_told(code: str, problem: str, tmp_path: Path) -> None:
    assert run(python(code, tmp_path), tmp_path / "log").problem == problem


def test_a_child_that_takes_too_long_is_killed_and_nothing_polls(tmp_path: Path) -> None:
    before = threading.active_count()
    ending = run(python("import time; time.sleep(60)", tmp_path, timeout_s=0.2), tmp_path / "log")
    assert ending.problem == "took longer than 0.2 s and was killed"
    assert threading.active_count() == before


def test_a_timeout_that_no_clock_can_hold_is_one_all_the_same(tmp_path: Path) -> None:
    before = threading.active_count()
    with started(python("import time; time.sleep(60)", tmp_path), tmp_path / "log") as process:
        with deadline(process, 1e300):
            assert threading.active_count() == before + 1
            time.sleep(0.1)  # a thread that cannot sleep so long dies at once
            assert threading.active_count() == before + 1
        process.kill()
    assert threading.active_count() == before


def test_a_usage_error_of_a_child_is_the_users(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ERROR: usage: pytest\nERROR: peftbench: unknown method 'lorra'\n\n")
    with pytest.raises(UserError, match=r"^unknown method 'lorra'$"):
        describe(4, log)
    log.write_text("ERROR: first\n!!!! _pytest.outcomes.Exit: peftbench: lora-nli: no override 'rank' !!!!\n\n")
    with pytest.raises(UserError, match=r"^lora-nli: no override 'rank'$"):
        describe(4, log)
    log.write_text("something else\n\n")
    with pytest.raises(UserError, match=r"^something else \(see "):
        describe(4, log)


def test_the_last_line_says_something() -> None:
    assert last_line("a\n=== b ===\n\n!!!\n") == "b"
    assert last_line(" \n") == "it said nothing"


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Let SIGINT interrupt this process, also where a shell started it in the background and had it ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_who_interrupts_twice_does_not_wait_for_a_child_that_will_not_end(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(4); open('late', 'w').close()"
    timers = [threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT)) for delay_s in (0.5, 1.0)]
    for timer in timers:
        timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(python(code, tmp_path), tmp_path / "log")
    assert not (tmp_path / "late").exists()
