"""Makes a site of results: an index, a page for each machine with its history, and a page for each run. Only files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import UserError
from peftbench.pages.content import content_of
from peftbench.pages.lines import as_image
from peftbench.pages.page import filled, render, require_packages
from peftbench.pages.sources import NamedFile, Sources, read_sources
from peftbench.pages.theme import DARK_PAPER, PAPER
from peftbench.pages.trends import MeasuredRun, RunHistory, Trend, histories
from peftbench.records.workfolder import replaced
from peftbench.report.answer import Answer
from peftbench.report.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

ENDINGS: Final = (".json", ".jsonl")
"""Files that are taken from a folder."""
MOST_COLUMNS: Final = 12
"""Most runs in the table of a history: the latest ones."""
MOST_CHANGED: Final = 4
"""Most changes of the latest run that the index names."""
LONGEST: Final = 60
"""Most characters of an address that are words."""


@dataclass(frozen=True, slots=True)
class SiteFiles:
    """What a site is made of."""

    sources: Sources
    left_out: Sequence[str]
    """Why files of the folders are not shown, a sentence each."""


def found_in(paths: Sequence[Path], *, but: Path) -> SiteFiles:
    """Return the files of peftbench among the paths and in the folders among them.

    Args:
        paths: Files and folders. A file is named on the site by its path below the given folder.
        but: A folder whose files are not taken, since the site will be written there.

    Raises:
        UserError: a path does not exist, or a file that is named itself cannot be shown.
    """
    found: list[Sources] = []
    left_out = []
    taken: dict[Path, str] = {}
    for path, name, named in _walked(paths, but):
        if path.resolve() in taken:
            continue
        if name in taken.values():  # two folders of the same name
            name = path.as_posix()  # noqa: PLW2901 - the name on the site
        taken[path.resolve()] = name
        try:
            found.append(_renamed(read_sources([path]), name))
        except UserError as error:
            if named:
                raise
            left_out.append(str(error).replace(str(path), name, 1))
    return SiteFiles(_together(found), left_out)


def _walked(paths: Sequence[Path], but: Path) -> Iterator[tuple[Path, str, bool]]:
    """Yield each file, its name on the site, and whether the file itself was given."""
    for path in paths:
        if not path.is_dir():
            yield path, path.name, True
            continue
        for file in sorted(path.rglob("*")):
            below = file.relative_to(path)
            hidden = any(part.startswith(".") for part in below.parts)
            if file.suffix in ENDINGS and file.is_file() and not hidden and not file.resolve().is_relative_to(but):
                yield file, (path.resolve().name / below).as_posix(), False


def _renamed(sources: Sources, name: str) -> Sources:
    return Sources(
        runs=tuple(NamedFile(name, one.content) for one in sources.runs),
        comparisons=tuple(NamedFile(name, one.content) for one in sources.comparisons),
        baselines=tuple(NamedFile(name, one.content) for one in sources.baselines),
        histories=tuple(NamedFile(name, one.content) for one in sources.histories),
    )


def _together(found: Iterable[Sources]) -> Sources:
    parts = list(found)
    return Sources(
        runs=tuple(one for part in parts for one in part.runs),
        comparisons=tuple(one for part in parts for one in part.comparisons),
        baselines=tuple(one for part in parts for one in part.baselines),
        histories=tuple(one for part in parts for one in part.histories),
    )


def write_site(files: SiteFiles, folder: Path, *, title: str, pages: int) -> list[str]:
    """Write a site in the place of a folder; return the names of its files.

    Args:
        files: What is shown.
        folder: The folder. It is replaced whole, or stays as it was.
        title: Title of the index.
        pages: Most runs of a machine that have a page. Older runs are in its history only.

    Raises:
        UserError: a package is missing, or the folder cannot be replaced.
    """
    require_packages()
    written: list[str] = []
    with replaced(folder) as new:
        for name, text in _files(files, title, pages):
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            written.append(name)
    return written


def _files(files: SiteFiles, title: str, pages: int) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file of the site."""
    machines: dict[str, list[NamedFile[Any]]] = {}
    for file in files.sources.runs:
        machines.setdefault(MeasuredRun(file).machine, []).append(file)
    parts = []
    for machine, runs in machines.items():
        folder = slug(machine)
        found = histories(runs)
        latest = sorted(runs, key=lambda file: MeasuredRun(file).order, reverse=True)
        addresses = {file.name: f"{slug(file.name)}.html" for file in latest[:pages]}
        for file in latest[:pages]:
            yield f"{folder}/{addresses[file.name]}", render(content_of(Sources(runs=(file,)), title=_run_title(file)))
        shown = [_history(history, addresses) for history in found]
        about = {"title": machine, "histories": shown, "up": "../index.html"}
        yield f"{folder}/index.html", filled("machine.html", about)
        parts.append({"name": machine, "address": f"{folder}/index.html", "histories": shown, "folder": folder})
    others = list(_others(files.sources))
    for address, _, text in others:
        yield address, text
    index = {
        "title": title,
        "machines": parts,
        "others": [{"address": address, "name": name} for address, name, _ in others],
        "left_out": list(files.left_out),
    }
    yield "index.html", filled("index.html", index)


def _others(sources: Sources) -> Iterator[tuple[str, str, str]]:
    """Yield address, name and page of each baseline, comparison and history of states."""
    for kind, found in (
        ("baselines", [(one.name, Sources(baselines=(one,))) for one in sources.baselines]),
        ("comparisons", [(one.name, Sources(comparisons=(one,))) for one in sources.comparisons]),
        ("histories", [(one.name, Sources(histories=(one,))) for one in sources.histories]),
    ):
        for name, part in found:
            yield f"{kind}/{slug(name)}.html", name, render(content_of(part, title=name))


def _run_title(file: NamedFile[Any]) -> str:
    one = MeasuredRun(file)
    return f"{one.label} on {one.machine}"


def _history(history: RunHistory, addresses: Mapping[str, str]) -> dict[str, Any]:
    """Return a history as JSON types, the latest run first."""
    last = history.runs[-1]
    answer = Answer(last.run)
    groups = counted(len({(one.group, one.seq_len) for one in last.run.records}), "group")
    settings = ", ".join(str(last.run.settings.get(name)) for name in ("model", "dtype", "data"))
    return {
        "title": f"{settings}; {counted(len(answer.found.methods), 'method')}, {groups}",
        "sentences": answer.sentences if answer.compares else [],
        "changed": list(history.changed),
        "first_changed": _few(history.changed),
        "before": history.runs[-2].label if len(history.runs) > 1 else "",
        "moved": list(history.moved),
        "runs": [_run(one, addresses) for one in reversed(history.runs)],
        "columns": [one.label for one in reversed(history.runs[-MOST_COLUMNS:])],
        "hidden": max(len(history.runs) - MOST_COLUMNS, 0),
        "trends": [_trend(trend, history) for trend in history.trends] if len(history.runs) > 1 else [],
    }


def _few(lines: Sequence[str]) -> list[str]:
    """Return the first lines; one more says how many are left out."""
    rest = len(lines) - MOST_CHANGED
    return [*lines[:MOST_CHANGED], *([f"and {counted(rest, 'change')} more"] if rest > 0 else [])]


def _run(one: MeasuredRun, addresses: Mapping[str, str]) -> dict[str, str]:
    failed = sum(record.status != "ok" for record in one.run.records)
    cases = counted(len(one.run.records), "case") + (f", {failed} without numbers" if failed else "")
    return {
        "label": one.label,
        "file": one.file.name,
        "date": one.date,
        "cases": cases,
        "address": addresses.get(one.file.name, ""),
    }


def _trend(trend: Trend, history: RunHistory) -> dict[str, Any]:
    rows = {}
    for method, cells in trend.rows.items():
        latest = list(reversed(cells[-MOST_COLUMNS:]))
        rows[method] = [{"shown": cell.shown, "change": cell.change} if cell else None for cell in latest]
    drawn = [
        {"run": f"{place + 1}. {one.label}", "method": method, "value": cell.mean / trend.unit}
        for place, one in enumerate(history.runs)
        for method, cells in trend.rows.items()
        if (cell := cells[place]) is not None
    ]
    charts = {"chart": as_image(trend.title, drawn, PAPER), "dark_chart": as_image(trend.title, drawn, DARK_PAPER)}
    return {"title": trend.title, "rows": rows, **charts}


def slug(text: str) -> str:
    """Return a text as a part of an address: its words, and a hash that tells it from any other text."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST].strip("-")
    return f"{words}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:6]}"
