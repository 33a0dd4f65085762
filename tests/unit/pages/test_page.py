"""The file of a page: text stays text, nothing is asked of anybody, and it is small enough to be sent."""

import base64
import hashlib
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.pages.specimens import comparison, everything, history, large_run, on_gpu, small_run
from tests.unit.report.test_hostile_text import HOSTILE, poisoned

from peftbench.errors import UserError
from peftbench.pages.content import content_of
from peftbench.pages.packing import embedded, packed
from peftbench.pages.page import render, write_page
from peftbench.pages.sources import NamedFile, Sources


class Elements(HTMLParser):
    """The elements of a page with the names of their attributes, and the content of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[str] = []
        self.scripts: list[str] = []
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))
        given = dict(attrs)
        self.values += [given[name] or "" for name in ("src", "href", "action", "srcset") if name in given]
        if given.get("http-equiv"):
            self.policy = given["content"] or ""

    def handle_data(self, data: str) -> None:
        if self.found[-1:] and self.found[-1][0] == "script" and self.get_starttag_text() is not None:
            self.scripts.append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return render(content_of(everything()))


def data_of(text: str) -> Any:  # noqa: ANN401 - JSON
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    assert found
    return json.loads(found[1])


def test_only_the_scripts_of_the_page_run_and_no_address_is_asked(page: str) -> None:
    elements = Elements(page)
    assert all(value.startswith("#") or value == "data:," for value in elements.values)
    assert "default-src 'none'" in elements.policy
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(hashes) == 2
    assert all(f"'sha256-{one}'" in elements.policy for one in hashes)
    assert "unsafe-eval" not in elements.policy
    assert not re.search(r"script-src[^;]*unsafe-inline", elements.policy)
    assert not re.search(r"@import|url\(", page[: page.index("</style>")])


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_text(page: str, text: str) -> None:
    run = poisoned(replace(small_run(), settings={}), text)
    run = replace(run, settings={"model": text, "device": text, "dtype": text, "data": text, "reference": text})
    run = replace(run, fingerprint=dict.fromkeys(small_run().fingerprint, text), notes={})
    records = [replace(one, id=f"{text}{place}", variant={}) for place, one in enumerate(run.records)]
    sources = Sources(
        runs=(NamedFile(text, replace(run, records=tuple(records))),),
        comparisons=(NamedFile(text, _poisoned_struct(comparison(), text)),),
        histories=(NamedFile(text, replace(history(), options=(text,))),),
    )
    found = render(content_of(sources, title=text))
    known = {tag for tag, _ in Elements(page).found} | {"br"}
    elements = Elements(found)
    assert {tag for tag, _ in elements.found} <= known
    assert sum(tag == "script" for tag, _ in elements.found) == 3
    assert not any(name.startswith("on") for _, names in elements.found for name in names)
    body = found[found.index("<body>") : found.index('<script type="application/json"')]
    assert all(character.isprintable() or character == "\n" for character in body)
    words = json.dumps(data_of(found), ensure_ascii=False)
    assert all(character.isprintable() for character in words)


def _poisoned_struct(diff: Any, text: str) -> Any:  # noqa: ANN401 - a Struct of msgspec
    cases = tuple(msgspec.structs.replace(case, id=text, cause=text, reason=text) for case in diff.cases)
    return msgspec.structs.replace(diff, cases=cases, headline=text, notes=(text,))


def test_embedded_data_end_no_element_and_come_back() -> None:
    data = {"a": "</script><!-- \u2028 \u202e & \x1b", "b": [1.5, None]}
    text = embedded(data)
    assert not set("<>&\u2028\u202e\x1b").intersection(text)
    assert json.loads(text) == {"a": "</script><!-- \\u2028 \\u202e & \\x1b", "b": [1.5, None]}


def test_packed_rows_hold_each_text_once_and_six_digits() -> None:
    rows: list[dict[str, Any]] = [{"a": "x", "n": 0.123456789}, {"a": "y", "n": None}, {"a": "x", "n": 2.0}]
    assert packed(rows) == {
        "count": 3,
        "columns": {"a": {"words": ["x", "y"], "places": [0, 1, 0]}, "n": [0.123457, None, 2]},
    }
    assert packed([]) == {"count": 0, "columns": {}}


def test_every_part_has_its_place(page: str) -> None:
    ids = set(re.findall(r'id="([\w-]+)"', page))
    assert {"answer", "guard", "choose", "case", "learning", "serving", "merging", "claims"} <= ids
    assert {f"plot-{name}" for name in data_of(page)["plots"]} <= ids
    assert 'class="card bad"' in page


def test_parts_without_data_are_left_out() -> None:
    page = render(content_of(Sources(comparisons=(NamedFile("d", comparison()),))))
    ids = set(re.findall(r'id="([\w-]+)"', page))
    assert "guard" in ids
    assert "change of time [90 %]" in page  # between two bounds, each of 95 %
    assert not {"choose", "case", "learning", "serving", "merging", "claims"} & ids


def test_a_page_of_a_thousand_cases_can_be_sent() -> None:
    run = large_run(1000)
    gpu = on_gpu(run.records[0])
    records = tuple(
        replace(one, timeline=gpu.timeline, longest_kernels=gpu.longest_kernels, metrics={**gpu.metrics, **one.metrics})
        for one in run.records
    )
    text = render(content_of(Sources(runs=(NamedFile("run.json", replace(run, records=records)),))))
    assert len(text.encode()) < 5_000_000


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        write_page(everything(), tmp_path / "folder.html")
    with pytest.raises(UserError, match="cannot be read"):
        write_page(everything(), path, target="high")
    assert path.read_text() == "old"
    write_page(everything(), path)
    assert path.read_text().startswith("<!doctype html>")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder.html", "page.html"]


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(UserError, match=r"pip install 'peftbench\[report\]' \(vl_convert is missing\)"):
        write_page(everything(), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
