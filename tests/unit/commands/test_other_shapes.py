"""Settings, notes and variants are free; where we read them again, another shape is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.records import a_record

from peftbench.cli import main
from peftbench.records.record import CurvePoint, Metric, Run
from peftbench.records.runfile import save_run

SHARD: dict[str, Any] = {"part": 1, "parts": 2, "cases": 4, "planned": ["a"]}


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    record = a_record(
        "full",
        workload="convergence",
        metrics={"time_s": Metric(1.0, "s", noise="timed")},
        variant={"seed": 0, "lr": 3e-5},
        curve=(CurvePoint(1, 8, 0.5, 0.9, {"accuracy": 0.9}),),
    )
    settings = {"model": "tiny", "target": "97%", "learning_rates": [3e-5]}
    path = tmp_path / "run.json"
    save_run(
        Run({"cpu": "x"}, settings, (record,), {"shard": SHARD, "duration_s": 1.0, "passes_s": {"time": 1.0}}), path
    )
    return path


def edited(path: Path, part: str, changes: object) -> None:
    data = json.loads(path.read_text())
    at = data["records"][0] if part == "variant" else data
    at[part] = {**at[part], **changes} if isinstance(changes, dict) else changes
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("notes", {"shard": 7}, "notes: shard: expected an object, found 7"),
        ("notes", {"shard": {"part": 1}}, "notes: shard.cases: is missing"),
        ("notes", {"shard": {**SHARD, "part": "1"}}, "notes: shard.part: expected a whole number"),
        ("notes", {"shard": {**SHARD, "planned": 3}}, "notes: shard.planned: expected a list"),
        ("notes", {"duration_s": "long"}, "notes: duration_s: expected a finite number"),
        ("notes", {"passes_s": [1]}, "notes: passes_s: expected an object"),
        ("notes", {"passes_s": {"time": "x"}}, "notes: passes_s.time: expected a finite number"),
        ("notes", [], "notes: expected an object"),
        ("settings", {"target": 7}, "settings: target: expected text"),
        ("settings", {"learning_rates": "x"}, "settings: learning_rates: expected a list"),
        ("settings", {"learning_rates": 3e-5}, "settings: learning_rates: expected a list"),
        ("settings", {"learning_rates": [[]]}, "settings: learning_rates.0: expected a finite number"),
    ],
)
@pytest.mark.parametrize("command", ["merge", "claims", "recommend", "compare"])
def test_another_shape_is_refused_in_one_line_by_each_command(
    run_file: Path, capsys: pytest.CaptureFixture[str], command: str, part: str, changes: object, said: str
) -> None:
    edited(run_file, part, changes)
    arguments = {"merge": [str(run_file), "-o", str(run_file.with_name("all.json"))], "compare": [str(run_file)] * 2}
    assert main([command, *arguments.get(command, [str(run_file)])]) == 2
    assert f"{run_file}: {said}" in capsys.readouterr().err
    assert not run_file.with_name("all.json").exists()


def test_a_run_that_does_not_say_where_it_was_measured_is_shown(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The schema of a run requires no entry of fingerprint, settings and notes."""
    data = json.loads(run_file.read_text())
    run_file.write_text(json.dumps({**data, "fingerprint": {}, "settings": {}, "notes": {}}))
    out = {name: str(run_file.with_name(name)) for name in ("page.html", "site", "all.json")}
    assert main(["show", str(run_file)]) == 0
    assert main(["report", str(run_file), "-o", out["page.html"]]) == 0
    assert "unknown, unknown thread(s)" in Path(out["page.html"]).read_text()
    assert main(["site", str(run_file), "-o", out["site"]]) == 0
    assert main(["merge", str(run_file), "-o", out["all.json"]]) == 0
    assert capsys.readouterr().out.endswith("all.json: 1 case of 1 file\n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"seed": "x"}, "variant: seed: expected a whole number"), ({"lr": []}, "variant: lr: expected a finite number")],
)
@pytest.mark.parametrize("command", ["claims", "recommend"])
def test_what_a_training_varies_has_its_shape(
    run_file: Path, capsys: pytest.CaptureFixture[str], command: str, changes: object, said: str
) -> None:
    edited(run_file, "variant", changes)
    assert main([command, str(run_file)]) == 2
    assert said in capsys.readouterr().err


def test_a_note_of_very_many_shards_is_told_of_at_once(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(run_file, "notes", {"shard": {**SHARD, "parts": 10**15}})
    assert main(["merge", str(run_file), "-o", str(run_file.with_name("all.json"))]) == 1
    assert capsys.readouterr().err.endswith("of shard 2-1000000000000000 of 1000000000000000\n")


def test_a_file_that_is_given_twice_is_named(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run_file.with_name("other.json")
    other.write_bytes(run_file.read_bytes())
    assert main(["merge", str(run_file), str(other), str(other), "-o", str(run_file.with_name("all.json"))]) == 2
    assert capsys.readouterr().err == f"peftbench: {other}: is given twice; name each file once\n"
