"""The index of a site and its pages of machines in a real browser: files that ask for nothing, for everybody."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.browser.test_report_page import LAYOUT, LOOKS

if TYPE_CHECKING:
    from tests.browser.conftest import Visit

    Opens = Callable[..., Visit]

KINDS = ("index", "machine")


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Path]:
    (machine,) = site.glob("a-processor-*/index.html")
    return {"index": site / "index.html", "machine": machine}


@pytest.mark.parametrize(("kind", "look"), list(product(KINDS, LOOKS)))
def test_nothing_is_said_asked_for_or_cut(
    visit: Opens, pages: dict[str, Path], pictures: Path, kind: str, look: tuple[int, str]
) -> None:
    width, theme = look
    found = visit(pages[kind], width=width, theme=theme)
    picture = pictures / f"{kind}-{width}-{theme}.png"
    found.page.screenshot(path=picture, full_page=True)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert found.said == []
    assert [one for one in found.asked if not one.startswith("data:")] == [pages[kind].as_uri()]
    assert found.evaluate(LAYOUT) == []
    drawn: list[str] = found.evaluate("() => [...document.images].map(image => atob(image.currentSrc.split(',')[1]))")
    assert len(drawn) == (4 if kind == "machine" else 0)
    assert all(("#e8eaed" in one) == (theme == "dark") for one in drawn)


@pytest.mark.parametrize(("kind", "look"), list(product(KINDS, [(360, "dark"), (1600, "light")])))
def test_everybody_can_use_it(visit: Opens, pages: dict[str, Path], axe: str, kind: str, look: tuple[int, str]) -> None:
    found = visit(pages[kind], width=look[0], theme=look[1])
    found.page.evaluate(axe)
    violations: list[dict[str, Any]] = found.evaluate("async () => (await axe.run()).violations")
    assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in violations] == []


def test_the_index_leads_to_what_became_slower_and_back(visit: Opens, pages: dict[str, Path]) -> None:
    page = visit(pages["index"]).page
    card = page.locator("article", has_text="Changed since v0.2")
    assert card.locator(".changes li").all_inner_texts()[0].startswith("time of train_step, x base: lora slower (")
    assert page.locator("h2 a").all_inner_texts()[1:] == ["<script>alert(1)</script>", "w" * 300]
    page.get_by_role("link", name="A Processor").click()
    assert page.locator("h1").inner_text() == "A Processor"
    assert page.locator("td.changed").first.inner_text().endswith(" slower")
    page.get_by_role("link", name="v0.3").click()
    page.wait_for_selector("html[data-drawn]", state="attached")
    page.go_back()
    page.get_by_role("link", name="All machines").click()
    assert page.locator("h1").inner_text() == "Results"
