import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.records import a_record

from peftbench.cli import main
from peftbench.gate.snapshot import Snapshot
from peftbench.gate.store import load
from peftbench.records.record import Launch, Metric, Run
from peftbench.records.runfile import save_run

MakeSnapshot = Callable[..., Snapshot]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def record(folder: Path, make_run: MakeSnapshot) -> Callable[..., Path]:
    """Return what writes a run file of the cases a to h."""

    def write(
        name: str, shifts: dict[str, float] | None = None, *, session: str = "s1", flops: int = 1000, **kw: int
    ) -> Path:
        snapshot = make_run(shifts, **{"launches": 5, **kw})
        records = tuple(
            a_record(
                id_,
                id=id_,
                seq_len=128,
                metrics={"flops": Metric(flops, "FLOP")},
                launches=tuple(Launch(session, 40, 0.012, 0.01, x, 0.02) for x in case.x["new"]),
            )
            for id_, case in snapshot.cases.items()
        )
        path = folder / f"{name}.json"
        save_run(Run(snapshot.fingerprint, snapshot.settings, records), path)
        return path

    return write


def test_accept_then_compare(record: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    first = record("first")
    assert main(["accept", str(first), "--why", "first baseline"]) == 0
    out = capsys.readouterr().out
    assert "8 cases accepted, 0 kept as they were" in out
    (path,) = Path("baselines").iterdir()
    assert path.name in out
    assert main(["compare", str(path), str(first)]) == 0
    assert capsys.readouterr().out.startswith("Passed: 8 of 8 cases compared, and none failed.")
    slow = record("slow", {"c": 0.2}, session="s2")
    assert main(["compare", "baselines", str(slow)]) == 1
    assert capsys.readouterr().out.startswith("Failed: 1 of 8 cases regressed (c).")
    assert main(["compare", "baselines", str(slow), "--fail-on", "none"]) == 0
    assert main(["compare", "baselines", str(slow), "-k", "not c"]) == 0
    assert main(["compare", str(slow), str(first), "--fail-on", "improved"]) == 1


def test_accept_says_whose_times_it_left_out(record: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = record("first")
    warned = path.read_text().replace('"warnings": []', '"warnings": ["shared GPU: 1 other process"]', 1)
    warned = warned.replace('"warnings": []', '"warnings": ["shared CPU: waited for a core"]', 1)
    path.write_text(warned)
    assert main(["accept", str(path), "--why", "first"]) == 0
    out = capsys.readouterr().out
    assert "8 cases accepted" in out
    assert (
        "2 cases without new times, since something else used the GPU or the core (a, b): their counters are compared"
        in out
    )


def test_a_baseline_is_not_accepted_again(record: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    main(["accept", str(record("first")), "--why", "first"])
    (path,) = Path("baselines").iterdir()
    before = path.read_bytes()
    assert main(["accept", str(path), "--why", "a slip"]) == 2
    assert f"{path}: is a baseline already" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_session_is_appended_and_a_failing_case_is_not(
    record: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["accept", str(record("first")), "--why", "first"])
    assert main(["accept", str(record("second", session="s2")), "--why", "another day", "--append"]) == 0
    (path,) = Path("baselines").iterdir()
    before = path.read_bytes()
    assert {len(load(path).launches(name)) for name in "abcdefgh"} == {10}
    assert main(["accept", str(record("slow", {"c": 0.2}, session="s3")), "--why", "no", "--append"]) == 2
    assert "only an unchanged run can be appended: c regressed" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main(["accept", str(record("slow", {"c": 0.2}, session="s3")), "--why", "meant", "-k", "c"]) == 0
    history = load(path).accepted
    assert [(entry.why, entry.cases, entry.keyword, entry.append) for entry in history] == [
        ("first", 8, "", False),
        ("another day", 8, "", True),
        ("meant", 1, "c", False),
    ]


def test_recording_unchanged_code_again_changes_the_launches_only(record: Callable[..., Path]) -> None:
    main(["accept", str(record("first")), "--why", "same"])
    (path,) = Path("baselines").iterdir()
    before = path.read_text().splitlines()
    main(["accept", str(record("second", session="s2", launches=6)), "--why", "same"])
    after = path.read_text().splitlines()
    moved = [line for line in after if line not in before]
    assert [line[:4] for line in moved] == ['"2":', *(f'"{name}":' for name in "abcdefgh"), '"tra', '{"da']


def test_young_baselines_and_cases_without_numbers_are_told(
    record: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = record("run", launches=3)
    data = json.loads(path.read_text())
    data["records"][0] |= {"status": "failed", "reason": "boom"}
    path.write_text(json.dumps(data))
    assert main(["accept", str(path), "--why", "first"]) == 0
    out = capsys.readouterr().out
    assert "7 cases accepted" in out
    assert "a not accepted: failed: boom" in out
    assert "7 cases with fewer than 5 launches, whose time is not compared yet" in out


def test_a_baseline_says_what_it_will_find_and_where_it_is_blind(
    record: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = record("quiet")
    main(["accept", str(quiet), "--why", "quiet"])
    out = capsys.readouterr().out
    assert re.search(r"a gate will find a slowdown of [0-4]\.\d% \(90% power, median case\)", out)
    assert "record again" not in out
    data = json.loads(quiet.read_text())
    for number, launch in enumerate(data["records"][3]["launches"]):
        launch["x"] += 0.1 * (number % 2)
    quiet.write_text(json.dumps(data))
    main(["accept", str(quiet), "--why", "busy"])
    out = capsys.readouterr().out
    assert re.search(r"1 of 8 cases: only slowdowns above the limit of 5% \(d: 1\d\.\d%\); record again", out)


def test_the_commit_is_that_of_the_baselines_folder(
    record: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    path = record("run")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "run.json"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "run"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    baselines = path.parent / "baselines"
    main(["accept", str(path), "--why", "first"])
    path.write_text(path.read_text() + "\n")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    main(["accept", str(path), "--baseline", str(baselines), "--why", "second"])
    (baseline,) = baselines.iterdir()
    assert [entry.commit for entry in load(baseline).accepted] == [head[:12], f"{head[:12]}-dirty"]


@pytest.mark.parametrize("format_", ["table", "markdown", "json", "github", "bencher", "action-benchmark"])
def test_every_format_goes_to_stdout(
    record: Callable[..., Path], capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    base, new = record("base", launches=8), record("new", flops=1001)
    assert main(["compare", str(base), str(new), "--format", format_]) == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    if format_ in ("json", "bencher", "action-benchmark"):
        json.loads(captured.out)
    else:
        assert "more FLOPs (1000" in captured.out


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda metrics: metrics.pop("flops"), 1),
        (lambda metrics: metrics["flops"].update(value=None, reason="not counted"), 1),
        (lambda metrics: metrics["flops"].update(value=3000, better="higher"), 1),
        (lambda metrics: metrics["flops"].update(value=3000, noise="timed"), 1),
        (lambda metrics: metrics["flops"].update(value=3000, better="Lower"), 2),
        (lambda metrics: metrics["flops"].update(value=3000, noise="Exact"), 2),
    ],
)
@pytest.mark.parametrize("layout", ["written", "dense"])
def test_a_counter_that_was_gated_and_is_not_there_does_not_pass(
    record: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], object],
    status: int,
    layout: str,
) -> None:
    main(["accept", str(record("first")), "--why", "first"])
    new = record("new")
    data = json.loads(new.read_text())
    change(data["records"][2]["metrics"])
    lines = new.read_text().splitlines(keepends=True)
    (at,) = [number for number, line in enumerate(lines) if line.startswith('{"id": "c"')]
    lines[at] = json.dumps(data["records"][2]) + ",\n"
    new.write_text("".join(lines) if layout == "written" else json.dumps(data))
    capsys.readouterr()
    assert main(["compare", "baselines", str(new), "--fail-on", "strict"]) == status
    captured = capsys.readouterr()
    if status == 1:
        assert "not measured any more: flops" in captured.out
    else:
        assert "record c: metrics.flops." in captured.err
    assert main(["accept", str(new), "--why", "new", "--append"]) == 2


def test_versions_under_test_may_differ(record: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    base, new = record("base"), record("new", flops=1001)
    new.write_text(new.read_text().replace('"peft": "0.21.2"', '"peft": "0.22.0"'))
    assert main(["compare", str(base), str(new)]) == 0
    assert "counters are not compared: other versions: peft 0.21.2 -> 0.22.0" in capsys.readouterr().out
    assert main(["compare", str(base), str(new), "--under-test", "peft"]) == 1


def test_a_constant_of_the_rule_is_an_option(record: Callable[..., Path]) -> None:
    base, new = record("base"), record("new", {"c": 0.2})
    assert main(["compare", str(base), str(new), "--gate-rule", "min-baseline=6"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "none.json", "run.json"], "none.json: cannot be read: No such file or directory"),
        (
            ["compare", "baselines", "run.json"],
            "baselines: cannot be read: No such file or directory; `peftbench accept` makes a first",
        ),
        (["compare", "empty", "run.json"], "empty: holds no baseline with the settings of this run"),
        (["compare", "run.json", "bad.json"], "bad.json:1: the file ends too early"),
        (["compare", "run.json", "run.json", "--fail-on", "slow"], "unknown verdict 'slow'"),
        (["compare", "run.json", "run.json", "-k", "a and"], "-k 'a and': column 6"),
        (
            ["compare", "run.json", "run.json", "--gate-rule", "alpha=2"],
            "--gate-rule alpha 2.0: must be between 0.0 and 1.0",
        ),
        (["accept", "run.json", "--why", ""], "--why: say in one line why"),
        (["accept", "run.json", "--why", "x", "-k", "zzz"], "nothing to accept: no case of the run matches -k 'zzz'"),
        (["accept", "run.json", "--why", "x", "--append"], "--append: there is no baseline of this fingerprint yet"),
    ],
)
def test_an_error_is_one_line_and_status_2(
    record: Callable[..., Path], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    record("run")
    Path("empty").mkdir()
    Path("bad.json").write_text('{"schema": ')
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"peftbench: {message}")
    assert captured.err.count("\n") == 1
    assert not list(Path().glob("baselines/*"))


def test_usage_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["accept", "run.json"])
    assert caught.value.code == 2
    assert "--why" in capsys.readouterr().err


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert {"compare", "accept"} <= set(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    assert "--gate-rule NAME=VALUE" in capsys.readouterr().out


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_the_commands_import_no_torch_and_help_no_numpy(record: Callable[..., Path]) -> None:
    heavy = "print(sorted({'torch', 'transformers', 'peft', 'pytest', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    path = str(record("run"))
    used = _python(f"import sys; from peftbench.cli import main; main(sys.argv[1:]); {heavy}", "compare", path, path)
    assert used.stderr.strip() == "['numpy']"
    idle = _python(f"import sys, peftbench.cli, peftbench.commands.compare, peftbench.commands.accept; {heavy}")
    assert idle.stderr.strip() == "[]"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_no_error(
    record: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    path = str(record("run"))
    code = (
        "import os, sys; from peftbench.cli import main\n"
        "r, w = os.pipe(); os.dup2(w, 1); os.close(w); os.close(r)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for arguments in (["compare", path, path], ["--help"]):
        result = _python(code, *arguments)
        assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_one_line(
    record: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    path = str(record("run"))
    code = (
        "import os, sys; from peftbench.cli import main\n"
        "os.dup2(os.open('/dev/full', os.O_WRONLY), 1); sys.exit(main(sys.argv[1:]))"
    )
    result = _python(code, "compare", path, path)
    told = "peftbench: standard output cannot be written: No space left on device\n"
    assert (result.returncode, result.stderr) == (2, told)


def test_one_writer_at_a_time(record: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from peftbench.gate import store

    monkeypatch.setattr(store, "PATIENCE_S", 0.0)
    path = record("run")
    main(["accept", str(path), "--why", "first"])
    (baseline,) = Path("baselines").iterdir()
    before = baseline.read_bytes()
    with store.writing(baseline):
        assert main(["accept", str(path), "--why", "second"]) == 2
    assert baseline.read_bytes() == before


def test_a_run_of_its_own_is_not_mixed_up_with_a_baseline(record: Callable[..., Path], make_run: MakeSnapshot) -> None:
    snapshot = replace(make_run(), fingerprint={"device": "cuda"})
    record("run")
    save_run(Run(snapshot.fingerprint, snapshot.settings, ()), Path("cuda.json"))
    assert main(["accept", "run.json", "--why", "first"]) == 0
    assert main(["compare", "baselines", "cuda.json", "--fail-on", "missing"]) == 1
