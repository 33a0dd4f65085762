"""Every field of every output, filled with text that wants to do something there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import pytest
from msgspec import Struct, structs
from rich.cells import cell_len
from tests.unit.report.test_comparison_reports import FOUND, LORA
from tests.unit.report.test_terminal import HOLE, RUN

from peftbench.claims.findings import CaseFinding, Finding
from peftbench.claims.intervals import Interval
from peftbench.claims.paper import CLAIMS
from peftbench.claims.recommend import Choice
from peftbench.commands import list as listed
from peftbench.gate.judgement import Judgement
from peftbench.gate.snapshot import snapshot_of
from peftbench.gate.verdict import Comparison, SuiteVerdict
from peftbench.records.record import CurvePoint, Launch, Run
from peftbench.report import claims, comparison, display, exports, markdown, recommendation, sheet, sheets, terminal
from peftbench.report.answer import Answer
from peftbench.text import COMMANDS

T = TypeVar("T")

HOSTILE = (
    "a\n::error title=x,file=y::z",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202eabc\u202c",
    "<script>alert(1)</script>",
    "half \ud800 character",
    "long " * 60,
    "w" * 300,
    "|a|`b`[c](d) @you",
    "##[error]:bug:[bold]",
    "::stop-commands::x",
)
WIDTH = 100


def poisoned(value: T, text: str) -> T:
    """Return a copy in which each text, however deep, is hostile, but for words that are one of a few."""
    if isinstance(value, str):
        return text  # type: ignore[return-value] # as it was: text
    if is_dataclass(value):
        hints = get_type_hints(type(value))
        free = [item.name for item in fields(value) if not _one_of(hints[item.name])]
        changed = {name: poisoned(getattr(value, name), text) for name in free}
        return replace(value, **changed)  # type: ignore[type-var] # a dataclass
    if isinstance(value, Struct):
        hints = get_type_hints(type(value))
        free = [name for name in value.__struct_fields__ if not _one_of(hints[name])]
        return structs.replace(value, **{name: poisoned(getattr(value, name), text) for name in free})
    if isinstance(value, Mapping):
        return {**{key: poisoned(item, text) for key, item in value.items()}, **_more(value, text)}  # type: ignore[return-value]
    if isinstance(value, tuple):
        return tuple(poisoned(item, text) for item in value)  # type: ignore[return-value]
    return value


def _more(value: Mapping[Any, Any], text: str) -> dict[str, Any]:
    """Return an entry with a hostile key, where a mapping has any."""
    return dict.fromkeys([text], poisoned(next(iter(value.values())), text)) if value else {}


def _one_of(hint: Any) -> bool:  # noqa: ANN401 - a type
    return get_origin(hint) is Literal or any(get_origin(part) is Literal for part in get_args(hint)[:1] if part)


def hostile_run(text: str) -> Run:
    launch = Launch("s", 3, 0.1, 0.1, 0.01)
    measured = [replace(record, launches=(launch,), warnings=("w",), operators={"o": 1}) for record in RUN.records[:2]]
    run = poisoned(replace(RUN, records=(*measured, HOLE, replace(HOLE, variant={"by": "x", "n": 1}))), text)
    curve = (CurvePoint(step=1, examples=8, time_s=1.0, quality=0.9),)
    trained = replace(run.records[0], workload="convergence", variant={"seed": 0, "lr": 1e-4}, curve=curve)
    served = replace(run.records[0], workload="deployment", variant={"by": text, "n": 1})
    merged = replace(run.records[0], workload="merging", variant={"by": text, "seed": 1})
    records = (*run.records, trained, served, merged)
    return replace(run, records=tuple(replace(one, id=f"{n}{one.id}") for n, one in enumerate(records)))


def hostile_comparison(text: str) -> Comparison:
    found = replace(FOUND, suite=(*FOUND.suite, SuiteVerdict("s", "regressed", 0.1, 0.1)))
    modules = tuple(structs.replace(change, name="layer") for change in LORA.operators)
    trained = structs.replace(LORA.counters[0], name="trainable_x")
    moved = structs.replace(LORA, reason="why", modules=modules, counters=(trained,))
    return poisoned(replace(found, cases=(*found.cases, moved)), text)


def hostile_findings(text: str) -> list[Finding]:
    case = CaseFinding("c", Interval(1, 0.5, 2), "holds", 3, 1)
    return [Finding(claim, "tuned", "holds", Interval(1, 0.5, 2), poisoned((case,), text)) for claim in CLAIMS[:2]]


def hostile_choices(text: str) -> list[Choice]:
    return [poisoned(Choice("m", 1.0, 0.5, 2.0, 2**30, "why", fits=fits, reached=True), text) for fits in (True, False)]


def pages(text: str) -> Iterator[tuple[str, str]]:
    found = hostile_comparison(text)
    yield "run", terminal.render(hostile_run(text), width=WIDTH)
    yield "answer", Answer(hostile_run(text)).render(width=WIDTH, folded=True)
    yield "comparison", comparison.render(found, fail_on={"regressed"}, width=WIDTH, everything=True)
    yield "wide comparison", comparison.render(found, fail_on={"regressed"}, width=120, everything=True)
    yield "claims", claims.render(hostile_findings(text), width=WIDTH, everything=True)
    yield "recommendation", recommendation.render(hostile_choices(text), width=WIDTH)
    described = [{"name": text, "architecture": text, "seq_len": None, "summary": text, "parameters": {"reason": text}}]
    yield "list", listed._table(listed.COLUMNS["models"], described, width=WIDTH, color=False)
    judged = Judgement(hostile_run(text), found, text)
    yield "gate", display.terminal(judged, width=WIDTH, color=False)
    yield "no gate", display.terminal(replace(judged, comparison=None, strict=True), width=10**6, color=False)


@pytest.mark.parametrize("text", HOSTILE)
def test_pages_of_the_terminal(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    command = re.compile(rf"\s*::({'|'.join(COMMANDS)})\b|.*##\[", re.IGNORECASE)
    for name, shown in pages(text):
        assert text[:1] in shown or "\\" in shown, name
        assert "\N{BUG}" not in shown, name
        for line in shown.splitlines():
            assert line.isprintable(), (name, line)
            assert not command.match(line), (name, line)
            limit = {"wide comparison": 120, "gate": 10**6, "no gate": 10**6}.get(name, WIDTH)
            assert cell_len(line) <= limit, (name, line)
        shown.encode()


@pytest.mark.parametrize("text", HOSTILE)
def test_commands_of_a_log(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = hostile_comparison(text)
    lines = exports.github_annotations(found, fail_on={"regressed", "missing"}).split("\n")
    assert len(lines) == len(found.failing({"regressed", "missing"})) + 1
    for line in lines[:-1]:
        assert re.fullmatch(r"::error title=[^:,]*::[^\x00-\x1f\x7f-\x9f\u2028\u2029]*", line), line
        assert line.isprintable()
        line.encode()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    shown = display.terminal(Judgement(hostile_run(text), None, text, strict=True), width=WIDTH, color=False)
    assert [line.startswith("::error title=peftbench::") for line in shown.splitlines()] == [False, True]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    found = hostile_comparison(text)
    for base in (found, None):
        display.write(Judgement(hostile_run(text), base, text), None)
    summary = (tmp_path / "summary.md").read_text()
    for shown in (markdown.render(found, fail_on={"regressed"}), claims.markdown(hostile_findings(text)), summary):
        bare = re.sub(r"\\.", "", shown)
        assert all(line.isprintable() for line in shown.split("\n"))
        assert not re.search(r"<(?!/?(details|summary)>)|`|@(?!&#8203;)|\]\(", bare)
        assert {line.count("|") for line in bare.split("\n") if line.startswith("|")} <= {6, 5}
        assert "::error" not in [line[:7] for line in bare.split("\n")]


@pytest.mark.parametrize("text", HOSTILE)
def test_files_for_other_programs(text: str) -> None:
    found, snapshot = hostile_comparison(text), snapshot_of(hostile_run(text))
    documents = (
        exports.to_json(found, fail_on={"regressed"}),
        exports.nothing_to_json(text, failed=True),
        exports.to_bencher(snapshot),
        exports.to_action_benchmark(snapshot),
        claims.to_json(hostile_findings(text), target=text),
        recommendation.to_json(hostile_choices(text)),
        sheet.render(sheets.of_run(hostile_run(text)), "json", width=WIDTH),
    )
    for document in documents:
        assert "##[" not in document
        for word in words(json.loads(document)):
            assert word.isprintable()
            word.encode()


def words(data: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from words(value)
    elif isinstance(data, list):
        for item in data:
            yield from words(item)
