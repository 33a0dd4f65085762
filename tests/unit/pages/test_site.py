"""A site of results: pages of machines with their histories, whole or not at all, and only files."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.unit.pages.specimens import at, history

from peftbench.cli import main
from peftbench.gate.snapshot import snapshot_of
from peftbench.gate.store import save
from peftbench.pages.sources import NamedFile
from peftbench.pages.theme import DARK_PAPER, PAPER
from peftbench.pages.trends import histories
from peftbench.records import history as history_files
from peftbench.records.record import Run
from peftbench.records.runfile import save_run

MARK = ".made-by-peftbench"


def named(*runs: Run) -> list[NamedFile[Run]]:
    return [NamedFile(f"run {number}", run) for number, run in enumerate(runs)]


def test_a_history_is_in_the_order_of_commits_and_marks_what_intervals_tell_apart() -> None:
    (found,) = histories(named(at(3, lora=1.3, peak=8), at(1), at(2, lora=1.02, peft="0.22")))
    assert [one.label for one in found.runs] == ["v0.1", "v0.2", "v0.3"]
    trends = {trend.title: trend.rows for trend in found.trends}
    time = trends["time of train_step, x base"]
    assert [cell and cell.change for cell in time["lora"]] == ["", "", "slower"]
    assert [cell and cell.change for cell in time["full"]] == ["", "", ""]
    assert [cell and cell.change for cell in trends["peak MB of a training step"]["lora"]] == ["", "", "more"]
    assert [re.sub(r"[\d.\[\], ]+->[\d.\[\], ]+", "->", line) for line in found.changed] == [
        "time of train_step, x base: lora slower (->)",
        "peak MB of a training step: lora more (->)",
    ]
    assert found.moved == ["v0.1 -> v0.2: peft 0.21.2 -> 0.22", "v0.2 -> v0.3: peft 0.22 -> 0.21.2"]


def test_runs_that_cannot_be_compared_are_histories_of_their_own() -> None:
    fewer = replace(at(2), records=at(2).records[:2])  # the same group: methods may come and go
    other = replace(at(3), settings={**at(3).settings, "model": "another"})
    wider = replace(at(4), records=tuple(replace(one, seq_len=64) for one in at(4).records))
    found = histories(named(at(1), fewer, other, wider, at(5, cpu="Another Processor")))
    assert [[one.label for one in part.runs] for part in found] == [["v0.5"], ["v0.4"], ["v0.3"], ["v0.1", "v0.2"]]


class Links(HTMLParser):
    """Gathers what a page asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src") and value]


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    hostile = "<script>alert(1)</script>"
    runs, baselines = tmp_path / "runs", tmp_path / "baselines"
    for day, cpu in ((1, "A Processor"), (2, "A Processor"), (3, hostile)):
        save_run(at(day, cpu=cpu), runs / f"{day}.json")
    history_files.write(history(), runs / "states/history.json")
    baselines.mkdir()
    save(snapshot_of(at(1)), baselines / "base.json")
    (runs / "broken.json").write_text("{")
    (runs / "notes.txt").write_text("not for us")
    return [str(baselines), str(runs)]


def test_a_site_is_whole_and_every_link_leads_to_a_file_of_it(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = tmp_path / "public"
    assert main(["site", *folders, "-o", str(public), "--title", "My <results>", "--pages=1"]) == 0
    out, error = capsys.readouterr()
    assert error.count("\n") == 1
    assert "left out: " in error
    assert "broken.json:1: the file ends too early" in error
    index = (public / "index.html").read_text()
    assert "<h1>My &lt;results&gt;</h1>" in index
    assert "broken.json:1: the file ends too early" in index
    pages = sorted(public.rglob("*.html"))
    assert f"{len(pages)} files written" in out
    assert len(pages) == 1 + 2 * (1 + 1) + 2  # index; two machines with one run's page each; baseline and history
    for page in (one for one in pages if one.name == "index.html"):
        found = Links(page.read_text())
        assert "script" not in found.tags
        for address in found.addresses:
            assert address.startswith(("data:", "#")) or (page.parent / address).is_file(), address
    machine = next(page for page in pages if "a-processor" in str(page) and page.name == "index.html").read_text()
    assert re.search(r'<a href="[^"]+">v0\.2</a>', machine)
    assert '<th scope="row">v0.1</th>' in machine  # has no page of its own
    assert machine.count("data:image/svg+xml") >= 2
    assert "Changed in it since v0.1: nothing that is marked." in machine
    drawn = [base64.b64decode(one).decode() for one in re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", machine)]
    assert any(PAPER.ink in one for one in drawn)
    assert any(DARK_PAPER.ink in one for one in drawn)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["baselines", "public", "runs"]


def test_a_site_that_cannot_be_made_leaves_the_old_one(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    public = tmp_path / "public"
    arguments = ["site", folders[0], "-o", str(public)]
    assert main(arguments) == 0
    before = {path: path.read_bytes() for path in public.rglob("*") if path.is_file()}
    monkeypatch.delattr("peftbench.pages.site.filled")
    with pytest.raises(NameError):
        main(arguments)
    assert {path: path.read_bytes() for path in public.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    (public / "mine.txt").write_text("precious")
    assert main(arguments) == 2
    assert "holds mine.txt, which peftbench did not put there" in capsys.readouterr().err
    assert (public / "mine.txt").read_text() == "precious"
    assert main(["site", folders[0], "-o", str(tmp_path / "runs")]) == 2
    assert f"was not made by peftbench (it holds no {MARK})" in capsys.readouterr().err
    assert main(["site", str(tmp_path / "gone"), "-o", str(public)]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["baselines", "public", "runs"]


def test_a_site_of_nothing_is_refused_and_leaves_the_old_one(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/other.json").write_text("{}")
    arguments = ["-o", str(tmp_path / "public")]
    assert main(["site", str(tmp_path / "empty"), *arguments]) == 2
    assert not (tmp_path / "public").exists()
    left_out, refused = capsys.readouterr().err.splitlines()
    assert left_out.startswith("peftbench: left out: empty/other.json")
    assert refused.startswith("peftbench: there is no run, baseline, comparison or history to show")
    assert main(["site", folders[0], *arguments]) == 0
    before = (tmp_path / "public/index.html").read_text()
    assert main(["site", str(tmp_path / "empty"), *arguments]) == 2
    assert (tmp_path / "public/index.html").read_text() == before
