"""`peftbench report`: a page from files, figures, and one line for whatever is wrong."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.pages.specimens import history, large_run, small_run

from peftbench.cli import main
from peftbench.records import history as histories
from peftbench.records.record import Record
from peftbench.records.runfile import save_run
from peftbench.report.numbers import counted


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    save_run(small_run(), tmp_path / "run.json")
    histories.write(history(), tmp_path / "history.json")
    return [str(tmp_path / name) for name in ("run.json", "history.json")]


def test_a_page_is_made_of_files_of_several_kinds(files: list[str], tmp_path: Path) -> None:
    page = tmp_path / "new/page.html"
    assert main(["report", *files, "-o", str(page), "--title", "My <results>"]) == 0
    text = page.read_text()
    assert "<title>My &lt;results&gt;</title>" in text
    assert 'id="plot-history"' in text
    assert 'id="plot-time-memory"' in text


def test_figures_are_written_without_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_run(large_run(2), tmp_path / "run.json")
    assert main(["report", str(tmp_path / "run.json"), "--figures", str(tmp_path / "figures")]) == 0
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert {"time-memory.svg", "time-memory.png", "time-memory.csv"} <= set(names)
    assert f"{len(names)} files written" in capsys.readouterr().out


ODD: dict[str, tuple[Callable[[Record], bool], str]] = {
    "no case": (lambda _: False, "The runs hold no case: nothing was measured."),
    "one method": (lambda one: one.method == "ia3", "One method was measured (ia3)"),
    "failed cases only": (lambda one: one.status != "ok", "No case has numbers."),
    "no numbers": (lambda one: one.id == "inference[ia3-ner-bs2]", "One method was measured (ia3)"),
}
"""What is odd about a run -> which records it has, and what its page says."""


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_run_is_a_page_a_site_and_figures_of_what_there_is(
    odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, said = ODD[odd]
    records = [one for one in small_run().records if kept(one)]
    if odd == "no numbers":
        records = [replace(one, metrics={}, launches=(), quantiles_s=(), operators={}) for one in records]
    save_run(replace(small_run(), records=tuple(records[:2])), tmp_path / "run.json")
    run, page, drawn = str(tmp_path / "run.json"), tmp_path / "page.html", tmp_path / "figures"
    assert main(["report", run, "-o", str(page)]) == 0
    assert said in page.read_text()
    assert main(["site", run, "-o", str(tmp_path / "site")]) == 0
    index = (tmp_path / "site/index.html").read_text()
    assert f"({counted(len(records[:2]), 'case')}" in index
    assert main(["report", run, "--figures", str(drawn)]) == 0
    nothing = "0 files written, since nothing in these files can be drawn" in capsys.readouterr().out
    assert nothing == (not drawn.exists()) == (odd != "one method")


def test_two_machines_share_a_page_and_not_a_page_of_the_site(tmp_path: Path) -> None:
    run = replace(small_run(), records=small_run().records[:2])
    save_run(run, tmp_path / "a.json")
    save_run(replace(run, fingerprint={**run.fingerprint, "cpu": "Another"}), tmp_path / "b.json")
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    assert main(["report", *paths, "-o", str(tmp_path / "page.html")]) == 0
    assert "b.json was not measured as a.json was (cpu differ)" in (tmp_path / "page.html").read_text()
    assert main(["site", *paths, "-o", str(tmp_path / "site")]) == 0
    assert len(list((tmp_path / "site").glob("*/index.html"))) == 2


def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_run(large_run(2), tmp_path / "run.json")
    run, page, site = str(tmp_path / "run.json"), tmp_path / "page.html", tmp_path / "site"
    page.write_text("old")
    assert main(["site", run, "-o", str(site)]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)  # after the bytes of a file
    monkeypatch.setattr(Path, "write_text", full)
    for arguments in (["report", run, "-o", str(page)], ["report", run, "--figures", str(tmp_path / "figures")]):
        assert main(arguments) == 2
    assert main(["site", run, "-o", str(site)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all(error.endswith("cannot be written: No space left on device") for error in errors)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema": "peftbench/run/99"}', "peftbench/run/99"),
        ('{"schema": "other/1"}', "is no file that can be shown"),
        ("{}", "it has no schema"),
        ("", "the file is empty"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_shown_is_one_line(
    content: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, page = tmp_path / "x.json", tmp_path / "page.html"
    if content is not None:
        path.write_text(content)
    assert main(["report", str(path), "-o", str(page)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not page.exists()


def test_what_cannot_be_written_or_was_not_asked_for_is_one_line(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for arguments, said in (
        (["-o", str(tmp_path / "file/page.html")], f"{tmp_path}/file is no folder"),
        (["-o", str(tmp_path)], "is a folder"),
        (["-o", str(tmp_path / "page.html"), "--figures", str(tmp_path / "file/figures")], "file is no folder"),
        ([], "name a page to be written"),
        ([files[0], "-o", str(tmp_path / "page.html")], "a file is given twice"),
    ):
        assert main(["report", files[0], *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not (tmp_path / "page.html").exists()
