"""The page in a real browser: what it says, asks for and does, how it looks, and whether everybody can use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.browser.conftest import Visit

    Opens = Callable[..., Visit]

LAYOUT = Path(__file__).with_name("layout.js").read_text(encoding="utf-8")
LOOKS = list(product((360, 1600), ("light", "dark")))
POINTS = "() => document.querySelectorAll('#plot-time-memory .mark-symbol path').length"
OPENED_MS = "() => performance.getEntriesByName('drawn')[0].startTime"
COLUMN = "(n) => [...document.querySelectorAll('#cases tbody tr')].map(row => row.cells[n].textContent)"


def test_the_page_of_a_real_run_says_nothing_asks_for_nothing_and_shows_the_run(visit: Opens, real_page: Path) -> None:
    found = visit(real_page)
    assert found.said == []
    assert found.asked == [real_page.as_uri()]
    assert found.evaluate(COLUMN, 0) == ["full", "lora", "ia3"]
    assert found.evaluate(POINTS) == 3
    assert "tiny on" in found.page.title()
    assert found.page.locator("#facts code").inner_text().startswith("pytest benches/ --benchmark-only")


def test_selection_and_methods_change_the_charts(visit: Opens, full_page: Path) -> None:
    found = visit(full_page)
    page = found.page
    assert found.evaluate(POINTS) == 4
    page.select_option("#pick-workload", "inference")
    page.select_option("#pick-batch", "8")
    assert page.locator("#shown").inner_text() == "The charts show inference, nli, 32 tokens, batch size 8."
    page.get_by_role("checkbox", name="houlsby").uncheck()
    page.wait_for_function("() => document.querySelectorAll('#plot-time-memory .mark-symbol path').length === 3")
    page.click("#no-methods")
    page.wait_for_selector("#plot-time-memory .nothing", state="visible")
    page.click("#all-methods")
    page.wait_for_function("() => document.querySelectorAll('#plot-time-memory .mark-symbol path').length === 4")
    page.select_option("#plot-serving-latency select", index=1)
    assert found.said == []


def test_the_table_sorts_filters_and_leads_to_a_case(visit: Opens, full_page: Path) -> None:
    found = visit(full_page)
    page = found.page
    head = page.locator("#cases thead th")
    place = [text.strip() for text in head.all_inner_texts()].index("peak MB")
    for order in ("ascending", "descending"):
        head.nth(place).get_by_role("button").press("Enter")
        assert head.nth(place).get_attribute("aria-sort") == order
        numbers = [float(text) for text in found.evaluate(COLUMN, place) if text]
        assert numbers == sorted(numbers, reverse=order == "descending")
        assert found.evaluate(COLUMN, place)[-1] == ""  # a case without numbers
    page.fill("#filter", "LORA inference")
    assert set(found.evaluate(COLUMN, 0)) == {"lora"}
    assert page.locator("#matching").inner_text() == "4 of 33 cases match."
    page.locator("#cases tbody button").first.click()
    name = page.locator("#case-name").inner_text()
    assert name.startswith("inference[lora-")
    assert f"--peftbench-batch-sizes={name[-2]}" in page.locator("#facts code").inner_text()
    page.select_option("#which", label="train_step[poly-nli-bs8]")
    assert "poly needs task ids" in page.locator("#case-name").inner_text()
    assert found.said == []


TIMELINE = "#plot-timeline-{} .mark-line path"


def test_a_case_of_a_gpu_has_its_timeline_and_kernels_and_another_case_has_none(visit: Opens, full_page: Path) -> None:
    found = visit(full_page, width=360)
    page = found.page
    assert not page.locator("#plot-timeline-power").is_visible()
    assert "% in" in page.locator("#facts").inner_text()  # shares of operators
    page.select_option("#which", label="train_step[lora-nli-bs8]")
    page.wait_for_selector(TIMELINE.format("power"), state="attached")
    page.wait_for_selector(TIMELINE.format("memory"), state="attached")
    assert page.locator(TIMELINE.format("power")).count() == 1
    assert page.locator(TIMELINE.format("memory")).count() == 2  # of the device, and of the process
    assert page.get_by_role("img", name="Power of the GPU over time").is_visible()
    assert "1.00 ms in 10 calls (matmul)" in page.locator("#facts").inner_text()
    assert found.evaluate(LAYOUT) == []
    page.select_option("#which", label="inference[full-ner-bs2]")
    page.wait_for_selector("#plot-timeline-power", state="hidden")
    assert found.said == []


def test_hostile_names_are_text(visit: Opens, hostile_page: Path) -> None:
    found = visit(hostile_page)
    assert found.said == []
    assert found.asked == [hostile_page.as_uri()]
    assert found.page.locator("h1").inner_text() == "<script>alert(1)</script>"
    assert found.page.title() == "<script>alert(1)</script>"
    methods = set(found.evaluate(COLUMN, 0))
    assert {"\\x1b[31mred\\x1b]0;title\\x07", "\\u202eabc\\u202c", "w" * 300} <= methods
    assert found.evaluate("() => document.querySelectorAll('script').length") == 3
    assert found.evaluate(LAYOUT) == []


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_nothing_is_cut_and_nothing_overlaps(
    visit: Opens, full_page: Path, pictures: Path, width: int, theme: str
) -> None:
    found = visit(full_page, width=width, theme=theme)
    picture = pictures / f"{width}-{theme}.png"
    found.page.screenshot(path=picture, full_page=True)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert found.evaluate(LAYOUT) == []
    light = found.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (theme == "light")


@pytest.mark.parametrize(("width", "theme"), [(360, "dark"), (1600, "light")])
def test_everybody_can_use_it(visit: Opens, full_page: Path, axe: str, width: int, theme: str) -> None:
    found = visit(full_page, width=width, theme=theme)
    found.page.evaluate(axe)
    violations: list[dict[str, Any]] = found.evaluate("async () => (await axe.run()).violations")
    assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in violations] == []


def test_the_keyboard_reaches_everything_and_paper_is_light(visit: Opens, full_page: Path) -> None:
    found = visit(full_page, theme="dark")
    page = found.page
    page.keyboard.press("Tab")
    assert found.evaluate("() => document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    reached = []
    for _ in range(400):
        page.keyboard.press("Tab")
        reached.append(found.evaluate("() => document.activeElement.id || document.activeElement.tagName"))
        if reached[-1] == "which":
            break
    assert {"pick-workload", "pick-batch", "method-0", "filter", "which"} <= set(reached)
    page.emulate_media(media="print")
    assert found.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert found.evaluate("() => getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert not page.locator("nav").is_visible()
    page.emulate_media(media="screen")


def test_a_thousand_cases_are_shown_in_portions(
    visit: Opens, tmp_path: Path, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.unit.pages.specimens import large_run, on_gpu

    from peftbench.pages.page import write_page
    from peftbench.pages.sources import NamedFile, Sources

    path = tmp_path / "page.html"
    run = large_run(1000)
    run = replace(run, records=tuple(map(on_gpu, run.records)))
    write_page(Sources(runs=(NamedFile("run.json", run),)), path)
    found = visit(path)
    opened_s = found.evaluate(OPENED_MS) / 1e3
    record_property("opened_s", opened_s)
    with capsys.disabled():  # a figure to be read; it asserts nothing
        print(f"\na page of 1,000 cases of a GPU: drawn {opened_s:.2f} s after it was asked for")  # noqa: T201
    assert len(found.evaluate(COLUMN, 0)) == 100
    found.page.click("#more")
    assert len(found.evaluate(COLUMN, 0)) == 200
    found.page.fill("#filter", "ln-tuning copa 3")
    assert 0 < len(found.evaluate(COLUMN, 0)) <= 100
    assert found.said == []
