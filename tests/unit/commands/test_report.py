"""`peftbench report`: a page from files, figures, and one line for whatever is wrong."""

from pathlib import Path

import pytest
from tests.unit.pages.specimens import history, large_run, small_run

from peftbench.cli import main
from peftbench.records import history as histories
from peftbench.records.runfile import save_run


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
        (["-o", str(tmp_path / "file/page.html")], "cannot be written"),
        (["-o", str(tmp_path)], "is a folder"),
        (["--figures", str(tmp_path / "file/figures")], "cannot be written"),
        ([], "name a page to be written"),
        ([files[0], "-o", str(tmp_path / "page.html")], "a file is given twice"),
    ):
        assert main(["report", files[0], *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not (tmp_path / "page.html").exists()
