"""What docs/extend.md shows is what is run here: files and commands are taken from the page itself."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.plugin.running import Run, records

from peftbench.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "extend.md").read_text()
README = (Path(__file__).parents[2] / "README.md").read_text()
FILES = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^\$ pytest (.*)$", PAGE, re.MULTILINE)
SNIPPETS = re.findall(r"(?<!`:\n\n)^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

QUICK = ("--peftbench-rounds=3", "--peftbench-seq-len=16", "--peftbench-batch-sizes=2", "--peftbench-json=run.json")


def command(file: str) -> list[str]:
    """Return the arguments of the page's command that runs a file, or a folder."""
    (found,) = [line for line in COMMANDS if line.startswith(file)]
    return shlex.split(found)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the page's package was installed, as pip does it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in ("pyproject.toml", "peftbench_example.py", "peftbench_example_modules.py"):
        (source / name).write_text(FILES[name])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


@pytest.fixture
def installed(package: Path, benches: pytest.Pytester) -> pytest.Pytester:
    benches.syspathinsert(package)
    return benches


def test_a_package_adds_methods_a_task_a_model_and_a_workload(installed: pytest.Pytester) -> None:
    installed.path.joinpath("bench_example.py").write_text(FILES["bench_example.py"])
    result = installed.runpytest_inprocess(*command("bench_example.py"), *QUICK)
    result.assert_outcomes(passed=4)
    found = records(installed.path / "run.json")
    assert list(found) == [
        f"evaluation[{method}-topic-bs2]" for method in ("full", "norms", "lora-r64", "scaled-embeddings")
    ]
    run = json.loads((installed.path / "run.json").read_text())
    assert run["settings"]["model"] == "bert-tiny"
    body = {record["method"]: record["metrics"]["trainable_body"]["value"] for record in found.values()}
    assert body["norms"] == (2 * 2 + 1) * 2 * 128  # weight and bias of two norms a layer, and the embeddings'
    assert body["lora-r64"] == 2 * 2 * 2 * 64 * 128  # layers x query and value x two factors
    assert body["scaled-embeddings"] == 128
    assert all(record["metrics"]["trainable_head"]["value"] == 128 * 4 + 4 for record in found.values())


def test_a_package_is_listed(
    installed: pytest.Pytester, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    del installed
    for kind, name in (
        ("methods", "scaled-embeddings"),
        ("tasks", "topic"),
        ("models", "bert-tiny"),
        ("workloads", "evaluation"),
    ):
        assert main(["list", kind, *(["--no-parameters"] if kind == "methods" else [])]) == 0
        (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(name)]
        assert len(row.split()) > 2


def test_a_conftest_adds_a_method(benches: pytest.Pytester) -> None:
    benches.makeconftest(FILES["conftest.py"])
    folder, *arguments = command("benches/")
    benches.mkdir(folder)
    benches.path.joinpath("bench_all.py").rename(benches.path / folder / "bench_all.py")
    result = benches.runpytest_inprocess(folder, *arguments, *QUICK, "--peftbench-workloads=inference")
    result.assert_outcomes(passed=2)
    found = records(benches.path / "run.json")
    own, built_in = (found[f"inference[{name}-nli-bs2]"]["metrics"] for name in ("lora-r2", "lora"))
    assert 4 * own["trainable_body"]["value"] == built_in["trainable_body"]["value"]


def test_a_benchmark_file_of_ones_own(benches: pytest.Pytester) -> None:
    benches.makepyfile(test_mine=FILES["test_mine.py"])
    result = benches.runpytest_inprocess(*command("test_mine.py"), *QUICK)
    result.assert_outcomes(passed=2)
    found = records(benches.path / "run.json")
    assert {record["batch_size"] for record in found.values()} == {4}
    assert {record["workload"] for record in found.values()} == {"embed"}
    assert all(record["metrics"]["ratio"]["value"] > 0 for record in found.values())


def test_a_benchmark_file_of_ones_own_is_tried_once_without_measuring(benches: pytest.Pytester) -> None:
    benches.makepyfile(test_mine=FILES["test_mine.py"])
    benches.runpytest_inprocess("test_mine.py", "--benchmark-disable").assert_outcomes(passed=2)


def test_two_functions_of_one_name_have_references_of_their_own(benches: pytest.Pytester) -> None:
    benches.makepyfile(
        test_mine="""
import pytest

@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.peftbench(methods="head", tasks="nli", batch_sizes=2)
def test_width(peft_case, width):
    seen = []
    def embed(model, batch):
        seen.append(model)
    peft_case.measure(embed)
    assert len(set(map(id, seen))) == 2
"""
    )
    benches.runpytest_inprocess("test_mine.py", "--benchmark-only", *QUICK).assert_outcomes(passed=2)


@pytest.mark.parametrize("code", SNIPPETS)
def test_the_other_code_of_the_page_runs(code: str) -> None:
    code = code.replace("BertConfig(", "BertConfig(hidden_size=32, num_attention_heads=2, vocab_size=100, ")
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 - our own page
    assert names["model"] is not None


def test_the_page_was_found() -> None:
    assert set(FILES) == {
        "pyproject.toml",
        "peftbench_example.py",
        "peftbench_example_modules.py",
        "bench_example.py",
        "conftest.py",
        "test_mine.py",
    }
    assert len(COMMANDS) == 3
    assert len(SNIPPETS) == 1


def test_the_readmes_own_function_runs_on_every_head(run: Run, benches: pytest.Pytester) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    benches.makepyfile(test_readme=example)
    run("test_readme.py", "--peftbench-methods=full", "--peftbench-tasks=all").assert_outcomes(
        passed=6, skipped=1
    )  # sft
