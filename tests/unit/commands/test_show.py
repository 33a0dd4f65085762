"""Each kind of file in each format, and what is none."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peftbench.cli import main
from peftbench.gate.compare import compare
from peftbench.gate.format import to_text
from peftbench.gate.snapshot import Acceptance, Snapshot, snapshot_of
from peftbench.measure.counters.checkpoint_size import CheckpointSize
from peftbench.records.journal import Journal
from peftbench.records.record import CurvePoint, Launch, Metric, Record, Run
from peftbench.records.runfile import save_run
from peftbench.report import exports

LORA = "train_step[lora-nli-bs8]"
IA3 = "train_step[ia3-nli-bs8]"
HEAD: dict[str, Any] = {"fingerprint": {"device": "cpu", "peft": "0.21.2"}, "settings": {"model": "tiny"}}


def record(name: str, saved: int, x: float) -> Record:
    metrics = {"saved_bytes": Metric(saved, "B"), "time_s": Metric(0.0124, "s", noise="timed", low=0.012, high=0.013)}
    launches = tuple(Launch("day", 40, 0.0124, x=x + 0.01 * number) for number in range(5))
    operators = {"aten::mm": 24}
    return Record(name, "train_step", name, "nli", 8, 128, "ok", "", metrics, launches, operators)


def run(saved: int = 4_200_000, x: float = 0.2) -> Run:
    failed = Record(IA3, "train_step", "ia3", "nli", 8, 128, "failed", "needs more | memory")
    return Run(HEAD["fingerprint"], HEAD["settings"], (record(LORA, saved, x), failed))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("COLUMNS", "160")
    found = {name: tmp_path / f"{name}.json" for name in ("run", "journal", "baseline", "diff")}
    save_run(run(), found["run"])
    journal = Journal(found["journal"], HEAD)
    for one in run().records:
        journal.append(one)
    journal.close()
    snapshot = snapshot_of(Run(HEAD["fingerprint"], HEAD["settings"], run().records[:1]))
    accepted = (Acceptance("2026-02-03", "abc", 1, "first"),)
    found["baseline"].write_text(to_text(Snapshot(**{**_fields(snapshot), "accepted": accepted})))
    diff = compare(snapshot, snapshot_of(run(saved=4_250_000, x=0.5)))
    found["diff"].write_text(exports.to_json(diff, fail_on=["regressed"]))
    return found


def _fields(snapshot: Snapshot) -> dict[str, Any]:
    return {name: getattr(snapshot, name) for name in Snapshot.__slots__}


def shown(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert main(["show", *map(str, words)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ["run", "baseline", "diff"])
@pytest.mark.parametrize("format_", ["table", "markdown", "json", "csv"])
def test_every_kind_in_every_format(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str], kind: str, format_: str
) -> None:
    out = shown(capsys, files[kind], "--format", format_)
    if format_ == "json":
        (row, *_) = (row for row in json.loads(out)["rows"] if row["case"] == LORA)
        assert (row.get("saved_bytes") or row["counters"]["saved_bytes"][0]) == 4_200_000
    elif format_ == "csv":
        (row, *_) = (row for row in csv.DictReader(io.StringIO(out)) if row["case"] == LORA)
        if "saved_bytes" in row:
            assert float(row["saved_bytes"]) == 4_200_000
        else:  # a comparison: both sides at one pace
            assert float(row["base_s"]) * (1 + float(row["change"])) == pytest.approx(0.0124)
    else:
        text = out.replace("\\", "")
        assert LORA in text
        assert {"run": "4.20", "baseline": "4.20", "diff": "+35.0 % ["}[kind] in text
        assert ("| --- |" in out) == (format_ == "markdown")


def test_a_journal_is_shown_as_the_run_that_it_was_to_become(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, files["journal"])
    assert "12.4 [12.0, 13.0]" in out
    assert "peft 0.21.2" in out


def test_why_a_case_has_no_numbers_is_shown_and_breaks_no_table(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "needs more | memory" in shown(capsys, files["run"])
    rows = [line for line in shown(capsys, files["run"], "--format=markdown").splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1


def test_the_size_of_a_checkpoint_is_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = CheckpointSize(tensor_bytes=1_457_164, other_bytes=4_472)
    measured = Run(HEAD["fingerprint"], HEAD["settings"], (replace(record(LORA, 1, 0.1), metrics=size.metrics()),))
    save_run(measured, tmp_path / "run.json")
    (tmp_path / "baseline.json").write_text(to_text(snapshot_of(measured)))
    for name in ("run", "baseline"):  # one has the sum beside its parts, the other the parts alone
        assert "1.46" in shown(capsys, tmp_path / f"{name}.json").split()


def test_trainings_are_shown_as_their_run_showed_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = tuple(CurvePoint(10 * n, 80 * n, 2.0 * n, quality=0.3 * n) for n in (1, 2, 3))
    training = Record(
        "convergence[full-nli-bs8]", "convergence", "full", "nli", 8, 32, "ok", variant={"seed": 0, "lr": 3e-5}
    )
    path = tmp_path / "run.json"
    save_run(Run(HEAD["fingerprint"], HEAD["settings"], (replace(training, curve=points),)), path)
    out = shown(capsys, path)
    assert "convergence  nli-bs8, target 0.873" in out
    assert re.search(r"full +3e-05 +1 +0\.900", out)
    (row,) = json.loads(shown(capsys, path, "--format=json"))["rows"]
    assert row["variant"] == {"seed": 0, "lr": 3e-5}


def test_every_number_of_a_baseline_has_a_line_that_names_it(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(capsys, files["baseline"], "--textconv").splitlines()
    assert f"{LORA}  saved_bytes  4,200,000" in lines
    assert f"{LORA}  operators  aten::mm  24" in lines
    assert "fingerprint  peft  0.21.2" in lines
    assert "accepted  2026-02-03 abc: 1 case, first" in lines


def test_a_name_does_not_reach_the_terminal_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    save_run(Run({"cpu\x1b[2J": "fast\x1b[2J"}, HEAD["settings"], (record("x\x1b[2J\ny", 1, 0.1),)), path)
    for format_ in ("--format=table", "--textconv"):
        out = shown(capsys, path, format_)
        assert "x\\x1b[2J\\ny" in out
        assert "\x1b" not in out


def test_a_narrow_terminal_folds_no_number(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = shown(capsys, files["baseline"]).splitlines()
    assert max(map(len, lines)) <= 60
    assert any(LORA in line and "12.4" in line for line in lines)


UNKNOWN = (
    ("[1, 2]", "is no file that can be shown: it has no schema; there are runs, baselines, "),
    ('{"schema": "other/1"}', "is no file that can be shown: its schema is 'other/1'"),
    ('{"schema": "peftbench/run/9"}', "this release reads peftbench/run/1; upgrade peftbench"),
    ('{"schema": "peftbench/comparison/1", "headline": 1}', "is no comparison that can be read: "),
    ('{"schema": "peftbench/journal/1"}\n', "fingerprint"),
    ('{"schema": "peftbench/journal/9"}\n', "not a journal of this version"),
    ("no json", "not JSON at column 1"),
    ("", "the file is empty"),
)


@pytest.mark.parametrize(("text", "problem"), UNKNOWN)
def test_another_file_is_one_line_and_for_git_its_own_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert main(["show", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"peftbench: {path}")
    assert problem in captured.err
    assert captured.err.count("\n") == 1
    assert shown(capsys, path, "--textconv") == text
