"""What the documentation tells people to type exists, and what it tells them to copy can be read."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # transformers brings it, without types

from peftbench.settings import flag_name, options

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


def test_the_workflow_can_be_read_and_runs_targets_that_exist() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/benchmarks.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    used = {target for step in steps for target in re.findall(r"\bmake ([a-z]+)", step.get("run", ""))}
    assert used
    assert used <= targets
