from pathlib import Path

import pytest

from peftbench.cli import main
from peftbench.commands import doctor
from peftbench.processes.git import git
from peftbench.processes.readable import ATTRIBUTE
from peftbench.records.record import Launch, Record, Run
from peftbench.records.runfile import save_run


def measure(folder: Path, launches: int, more: object) -> None:
    """Stand in for the pytest run of the doctor."""
    del launches, more
    made = tuple(Launch("day", 40, 0.01 + 0.0001 * number, x=0.2 + 0.01 * number) for number in range(2))
    record = Record("train_step[lora-nli-bs8]", "train_step", "lora", "nli", 8, 128, "ok", launches=made)
    save_run(Run({"threads": "1"}, {}, (record,), {"duration_s": 10.0}), folder / "run.json")


def test_the_doctor_says_whether_git_diff_is_readable_in_this_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_measure", measure)
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    assert "git diff" not in capsys.readouterr().out
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitattributes").write_text(f"{ATTRIBUTE}\n")
    assert main(["doctor"]) == 0
    assert 'git config diff.peftbench.textconv "peftbench show --textconv"' in capsys.readouterr().out


def test_one_launch_has_no_spread_and_is_refused_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_measure", None)
    assert main(["doctor", "--launches=1"]) == 2
    assert capsys.readouterr().err.startswith("peftbench: --launches 1: must be at least 2")
