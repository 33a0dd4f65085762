"""Runs whose every text wants to do something where it is shown, through every command that reads runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.report.test_hostile_text import HOSTILE, hostile_run

from peftbench.cli import main
from peftbench.records.runfile import load_run, save_run
from peftbench.text import COMMANDS

COMMAND = re.compile(rf"\s*::({'|'.join(COMMANDS)})\b|.*##\[", re.IGNORECASE)
FORMATS = ("table", "markdown", "json", "github", "bencher", "action-benchmark")


@pytest.fixture(params=HOSTILE)
def runs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two files of the same cases, of which the second counts more operations."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    run = hostile_run(request.param)
    save_run(run, Path("old.json"))
    assert load_run(Path("old.json")) == run
    more = [
        replace(record, metrics={**record.metrics, "flops": replace(metric, value=2.0, noise="exact")})
        if (metric := record.metrics.get("peak_bytes"))
        else record
        for record in run.records
    ]
    save_run(replace(run, records=tuple(more)), Path("new.json"))
    return "old.json", "new.json"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(arguments)
    output = capsys.readouterr()
    text = output.out + output.err
    for line in text.splitlines():
        assert line.isprintable(), (arguments, line)
        ours = "--format=github" in arguments and line.startswith("::error title=")
        assert ours or not COMMAND.match(line), (arguments, line)
    text.encode()
    return status, text


def test_every_command_shows_them_and_does_nothing_else(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = runs
    for form in FORMATS:
        status, text = shown(capsys, "compare", "--all", f"--format={form}", old, new)
        assert status in (0, 1)
        assert text or form == "github"
    assert shown(capsys, "accept", "--why=hostile", old)[0] == 0
    assert shown(capsys, "compare", "baselines", new)[0] in (0, 1)
    assert shown(capsys, "merge", "--launches", old, new, "-o", "both.json")[0] == 0
    assert shown(capsys, "merge", old, new, "-o", "both.json")[0] == 2
    for form in ("table", "markdown", "json"):
        assert shown(capsys, "claims", f"--format={form}", old)[0] == 0
    for form in ("table", "json"):
        assert shown(capsys, "recommend", "--objective=latency", f"--format={form}", old)[0] in (0, 1)
