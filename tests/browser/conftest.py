"""A browser, and pages of a real run and of files made by hand, each made once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.unit.pages.specimens import at, comparison, everything, large_run, small_run
from tests.unit.report.test_hostile_text import HOSTILE, poisoned

from peftbench.gate.snapshot import snapshot_of
from peftbench.pages.page import write_page
from peftbench.pages.site import SiteFiles, write_site
from peftbench.pages.sources import NamedFile, Sources

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REQUIRED: Final = "PEFTBENCH_BROWSER_REQUIRED"
"""Environment variable with which a missing browser fails the tests, as in CI. Without it they are skipped."""
PICTURES: Final = "PEFTBENCH_PICTURES"
"""Environment variable that names a folder in which the pictures of the pages are kept."""
NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
AXE: Final = Path(__file__).with_name("node_modules") / "axe-core/axe.min.js"
ROOT: Final = Path(__file__).parents[2]


def _missing(what: str) -> None:
    said = f"{what} is missing: `make browser` installs it"
    if os.environ.get(REQUIRED):
        pytest.fail(said)
    pytest.skip(said)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        _missing("Chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--force-device-scale-factor=1"]
        found = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script that looks for what keeps people from using a page."""
    if not AXE.exists():
        _missing("axe-core")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.environ.get(PICTURES) or tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def real_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that a real run writes at its end."""
    folder = tmp_path_factory.mktemp("real")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", str(ROOT / "benches/bench_train_step.py"), "--benchmark-only", "-q"),
            *("--peftbench-methods=full,lora,ia3", "--peftbench-tasks=nli", "--peftbench-batch-sizes=2"),
            *(
                "--peftbench-rounds=3",
                f"--peftbench-work={folder / 'work'}",
                f"--peftbench-html={folder / 'page.html'}",
            ),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return folder / "page.html"


@pytest.fixture(scope="session")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every part."""
    path = tmp_path_factory.mktemp("full") / "page.html"
    sources = everything()
    write_page(replace(sources, baselines=(NamedFile("baseline.json", snapshot_of(large_run(4))),)), path)
    return path


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page in which each name of a method, task and reason is another hostile text."""
    path = tmp_path_factory.mktemp("hostile") / "page.html"
    run = small_run()
    records = tuple(
        replace(poisoned(one, HOSTILE[place % len(HOSTILE)]), id=f"{place} {HOSTILE[place % len(HOSTILE)]}", variant={})
        for place, one in enumerate(run.records)
    )
    write_page(Sources(runs=(NamedFile(HOSTILE[3], replace(run, records=records)),)), path, title=HOSTILE[3])
    return path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of three machines, one of which has a history in which LoRA became slower and larger."""
    folder = tmp_path_factory.mktemp("site") / "public"
    runs = [at(1), at(2, peft="0.22"), at(3, lora=1.4, peak=8e6), at(1, cpu=HOSTILE[3]), at(1, cpu=HOSTILE[6])]
    sources = Sources(
        runs=tuple(NamedFile(f"runs/{number}-{'0' * 40}.json", run) for number, run in enumerate(runs)),
        comparisons=(NamedFile("runs/diff.json", comparison()),),
    )
    write_site(SiteFiles(sources, [f"runs/{HOSTILE[5]}: ends too early"]), folder, title="Results", pages=20)
    return folder


class Visit:
    """A page in a browser, with what it said and asked for."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(dialog.message))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(path.as_uri())
        if page.query_selector("#data"):  # pages of machines and the index have no scripts
            page.wait_for_selector("html[data-drawn]", state="attached")

    def evaluate(self, script: str, argument: object = None) -> Any:  # noqa: ANN401 - JSON
        return json.loads(json.dumps(self.page.evaluate(script, argument)))


@pytest.fixture
def visit(browser: Browser) -> Iterator[Any]:
    """Return a function that opens a page at a width, in a theme."""
    opened = []

    def opens(path: Path, *, width: int = 1600, theme: str = "light") -> Visit:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type] # one of two
        opened.append(page)
        return Visit(page, path)

    yield opens
    for page in opened:
        page.close()
