"""What the documentation tells people to type exists, and what it tells them to copy can be read."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # transformers brings it, without types

from peftbench.config.options import flag_name
from peftbench.config.settings import options
from peftbench.gate.constants import Rule
from peftbench.gate.verdict import parse_fail_on
from peftbench.matrix.catalogue import BUILT_IN
from peftbench.report.terminal import COLUMNS

ROOT = Path(__file__).parents[2]
CHANGELOG = ROOT / "CHANGELOG.md"
TEXTS = sorted({*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), *ROOT.glob(".github/*.md")} - {CHANGELOG})
"""Pages that say what is true today; the changelog says what was."""
PAGES = [*TEXTS, *sorted(ROOT.glob(".github/**/*.yml")), ROOT / "Makefile"]
FOLDERS = ("src/", "tests/", "tools/", "docs/", "benches/", ".github/", ".ci/")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def spans(page: Path) -> list[str]:
    """Return what a page sets in `code` within its sentences and tables."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_option_that_is_named_exists(page: Path) -> None:
    known = {flag_name(name) for name in options()}
    found = set(re.findall(r"--peftbench-[a-z][a-z0-9-]*[a-z0-9](?![a-z0-9*-])", page.read_text()))
    assert found <= known


@pytest.mark.parametrize("page", TEXTS, ids=named)
def test_every_module_and_folder_that_is_named_exists(page: Path) -> None:
    """`gate/store.py` is looked for in the package and at the top, `peftbench.gate.store` as Python does."""
    paths = [
        span
        for span in spans(page)
        if re.fullmatch(r"[\w.+-]+/[\w./+-]*", span)
        and (span.endswith((".py", ".sh", "/")) or span.startswith(FOLDERS))
        and not span.startswith((".peftbench/", "site/", "baselines/"))
    ]
    assert [path for path in paths if not any((at / path).exists() for at in (ROOT, ROOT / "src/peftbench"))] == []
    groups = set(BUILT_IN)  # of entry points, which are no modules where a group has no room
    modules = [span for span in spans(page) if re.fullmatch(r"peftbench(\.[a-z_]+)+", span) and span not in groups]
    assert [module for module in modules if find_spec(module) is None] == []


@pytest.mark.parametrize("page", [page for page in TEXTS if page.parent in (ROOT, ROOT / ".github")], ids=named)
def test_links_of_pages_that_are_not_part_of_the_site_lead_somewhere(page: Path) -> None:
    """Of those that are, `make docs` checks every link and anchor."""
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in (link for link in links if not link.startswith("https://")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve()
        assert target.is_file(), link
        titles = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, link


def test_every_word_stands_for_one_class() -> None:
    text = (ROOT / "docs/design.md").read_text()
    words = text[text.index("## Words") : text.index("## The path")]
    rows = re.findall(r"^\| [a-z].*? \| .*\| (`.*`) \|$", words, flags=re.MULTILINE)
    classes = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    source = "\n".join(path.read_text() for path in ROOT.glob("src/peftbench/**/*.py"))
    assert len(classes) > 30
    assert {name: len(re.findall(rf"^class {name}\b", source, flags=re.MULTILINE)) for name in classes} == (
        dict.fromkeys(classes, 1)
    )


def test_the_table_of_rooms_names_each_folder_in_the_order_of_the_layers() -> None:
    text = (ROOT / "docs/design.md").read_text()
    table = text[text.index("## The rooms") : text.index("## On top of")]
    rooms = [
        room for line in re.findall(r"^\| `.*", table, re.MULTILINE) for room in re.findall(r"`(\w[\w/]*)/`", line)
    ]
    source = ROOT / "src/peftbench"
    folders = {str(path.parent.relative_to(source)) for path in source.rglob("__init__.py")} - {"."}
    assert {room for room in folders if not any(f"{one}/".startswith(f"{room}/") for one in rooms)} == set()
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    places = {name: place for place, layer in enumerate(contracts[0]["layers"]) for name in layer.split(" | ")}
    order = [places[room.partition("/")[0]] for room in rooms]
    assert order == sorted(order)


def test_every_page_of_the_site_is_reached_from_its_first_page() -> None:
    entries = re.findall(r"^[a-z][a-z0-9/-]*$", (ROOT / "docs/index.md").read_text(), flags=re.MULTILINE)
    pages = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}
    assert pages == {"index.md", *(f"{entry}.md" for entry in entries if entry != "self")}


def test_the_page_that_explains_the_gate_fits_two_screens() -> None:
    assert len((ROOT / "docs/gate.md").read_text().splitlines()) <= 90


def test_the_site_lists_every_option_and_every_constant_of_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs/_extensions")
    import code_tables  # type: ignore[import-not-found] # beside the pages, for Sphinx

    page = (ROOT / "docs/reference/options.md").read_text()
    source = [page]
    code_tables.insert_tables(None, "reference/options", source)
    sys.modules.pop("code_tables")
    (text,) = source
    assert "<!-- table" not in text
    assert "a folder that holds \\<task\\>/\\<split\\>" in text  # no tag of HTML
    assert text.count("\n| `--peftbench-") == len(options())
    for constant in Rule.constants():
        assert f"| `{constant.name}` | {constant.default:g} | {constant.help}" in text


def test_the_first_page_explains_every_column_of_the_table() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/index.md").read_text(), flags=re.MULTILINE)
    assert rows == [column.title for column in COLUMNS]


def test_the_changelog_has_a_section_for_the_version_and_one_for_the_next() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    unreleased, latest, *_ = re.findall(r"^## (.*)$", CHANGELOG.read_text(), flags=re.MULTILINE)
    assert unreleased == "Unreleased"
    assert re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", latest)


def test_job_files_can_be_read() -> None:
    (slurm,), (kubernetes,), (ray,) = (blocks("machines.md", language) for language in ("bash", "yaml", "python"))
    bash = shutil.which("bash")
    assert bash is not None
    subprocess.run([bash, "-n"], input=slurm, text=True, check=True)
    job = yaml.safe_load(kubernetes)
    assert job["spec"]["completionMode"] == "Indexed"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    subprocess.run([bash, "-n"], input=container["args"][0], text=True, check=True)
    assert f'/{job["spec"]["completions"]}"' in container["args"][0]
    compile(ray, "shards.py", "exec")


def test_the_workflow_can_be_copied_and_gates_the_cases_of_the_baseline() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/benchmarks.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    bash = shutil.which("bash")
    assert bash is not None
    for command in commands:
        subprocess.run([bash, "-n"], input=command, text=True, check=True)
        assert {"make", ".venv/bin/python"}.isdisjoint(command.split())  # which only this project has
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (gated,) = re.findall(r"^GATED := (.*)$", makefile, flags=re.MULTILINE)
    (count,) = (command for command in commands if "counters.json" in command and "$MATRIX" in command)
    assert gated.split() == [*workflow["env"]["MATRIX"].split(), "--peftbench-rounds=10"]
    assert "--peftbench-rounds=10" in count.split()
    logs = [step["with"] for step in steps if ".peftbench/" in step.get("with", {}).get("path", "")]
    assert len(logs) == len(workflow["jobs"])
    assert all(log["include-hidden-files"] for log in logs)


def test_the_workflow_of_the_site_keeps_each_run_on_a_branch_that_it_makes(tmp_path: Path) -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/site.yml").read_text())
    steps = {step.get("name"): step["run"] for step in workflow["jobs"]["site"]["steps"] if "run" in step}
    keep = steps["Keep the run on the branch `results`"]
    bash, git = shutil.which("bash"), shutil.which("git")
    assert bash is not None
    assert git is not None
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    subprocess.run([git, "init", "--quiet", "--bare", origin], check=True)
    subprocess.run([git, "clone", "--quiet", origin, clone], check=True, capture_output=True)
    (clone / "code.py").touch()
    me = ("-c", "user.name=me", "-c", "user.email=me@localhost")
    for words in (("add", "."), (*me, "commit", "--quiet", "-m", "code"), ("push", "--quiet", "origin", "HEAD")):
        subprocess.run([git, "-C", clone, *words], check=True, capture_output=True)
    for number, sha in enumerate(("a" * 40, "b" * 40)):
        temporary = tmp_path / str(number)
        temporary.mkdir()
        (temporary / "run.json").write_text(sha)
        shutil.rmtree(clone, ignore_errors=True)
        subprocess.run([git, "clone", "--quiet", origin, clone], check=True, capture_output=True)
        environment = {**os.environ, "RUNNER_TEMP": str(temporary), "GITHUB_SHA": sha}
        subprocess.run([bash, "-e", "-c", keep], cwd=clone, env=environment, check=True, capture_output=True)
        kept = sorted(path.name[11:] for path in (temporary / "results/runs").iterdir())
        assert kept == [f"{one * 12}.json" for one in "ab"[: number + 1]]
    found = subprocess.run(
        [git, "-C", origin, "ls-tree", "-r", "--name-only", "results"], check=True, capture_output=True
    )
    assert found.stdout.count(b"runs/") == 2
    assert steps["Make the site"].startswith('peftbench site baselines "$RUNNER_TEMP/results/runs" -o ')


@pytest.mark.parametrize(
    "page", [ROOT / "Makefile", ROOT / ".github/workflows/benchmarks.yml"], ids=lambda page: page.name
)
def test_a_gate_of_counters_fails_where_nothing_could_be_compared(page: Path) -> None:
    (words,) = re.findall(r"--fail-on (\S+)", page.read_text())
    assert parse_fail_on(words) == {"regressed", "missing", "not comparable"}


def test_the_tests_run_on_every_python_from_the_first_that_is_supported() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    versions = workflow["jobs"]["tests"]["strategy"]["matrix"]["python-version"]
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert versions == [f"3.{minor}" for minor in range(int(lowest.partition(".")[2]), 15)]
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert commands == ["make check", "make test", "make browser"]
    assert {"browser", "check", "docs", "test"} <= set(targets)
    (browser,) = (step for step in workflow["jobs"]["browser"]["steps"] if step.get("run") == "make browser")
    read = re.findall(r'"(PEFTBENCH_\w+)"', (ROOT / "tests/browser/conftest.py").read_text())
    assert set(read) == set(browser["env"])  # a missing browser is a failure there, and the pictures are kept
