"""What the documentation tells people to type exists, and what it tells them to copy can be read."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # transformers brings it, without types

from peftbench.config.settings import flag_name, options
from peftbench.gate.verdict import parse_fail_on

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("*.md"), *ROOT.glob(".github/workflows/*.yml"), ROOT / "Makefile"])


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_named_exists(page: Path) -> None:
    known = {flag_name(name) for name in options()}
    named = set(re.findall(r"--peftbench-[a-z][a-z0-9-]*[a-z0-9](?![a-z0-9*-])", page.read_text()))
    assert named <= known


def test_job_files_can_be_read() -> None:
    (slurm,), (kubernetes,), (ray,) = (blocks("scaling.md", language) for language in ("bash", "yaml", "python"))
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


@pytest.mark.parametrize(
    "page", [ROOT / "Makefile", ROOT / ".github/workflows/benchmarks.yml"], ids=lambda page: page.name
)
def test_a_gate_of_counters_fails_where_nothing_could_be_compared(page: Path) -> None:
    (words,) = re.findall(r"--fail-on (\S+)", page.read_text())
    assert parse_fail_on(words) == {"regressed", "missing", "not comparable"}
