from collections.abc import Iterator
from importlib import import_module

import pytest
import torch
from tests.plugin.processes import BENCH as TRAIN_STEP
from tests.plugin.processes import World
from tests.plugin.running import Run

from peftbench.api import apply_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.models import building
from peftbench.models.presets import PRESETS, ModelSource
from peftbench.processes.launches import launcher

BENCH = """
from peftbench import bench

@bench("train_step")
def train_step(peft_case):
    peft_case.measure()

@bench("inference")
def inference(peft_case):
    peft_case.measure()
"""

THREADS = 3
"""Torch's threads outside of a run, which has another number."""
SMALL = (
    "--benchmark-only",
    "--peftbench-methods=full,lora",
    "--peftbench-tasks=nli",
    "--peftbench-batch-sizes=2",
    "--peftbench-seq-len=16",
    "--peftbench-rounds=3",
)


@pytest.fixture(scope="session")
def _libraries() -> None:
    """Import what a run imports: pytester forgets modules that are first imported in one of its in-process runs."""
    model = building.build_model(ModelSource("tiny", preset=PRESETS[0]), Catalogue.load().task("nli"), seed=0)
    lora = apply_method("lora", model, task="nli")
    torch.optim.AdamW(lora.parameters(), fused=True)
    for module in (
        "hypothesis.internal.observability",
        "peftbench.plugin.fixture",
        "peftbench.report.terminal",
        "peftbench.records.runfile",
        "rich.markdown",
        "transformers.trainer_utils",
        "sklearn.metrics",
        "peftbench.studies.training.single",
        "scipy.stats",
    ):
        import_module(module)


@pytest.fixture
def benches(_libraries: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with the two benchmark functions, offline."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytester.makeini("[pytest]\npython_files = bench_*.py test_*.py\n")
    pytester.makepyfile(bench_all=BENCH)
    return pytester


@pytest.fixture
def run(benches: pytest.Pytester) -> Iterator[Run]:
    """Runs pytest on that project with a small matrix and further arguments. Torch has its threads back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield lambda *arguments: benches.runpytest_inprocess(*SMALL, *arguments)
    left = torch.get_num_threads()
    torch.set_num_threads(before)
    assert left == THREADS


@pytest.fixture(scope="session", autouse=True)
def _modules() -> None:
    """Import what a run imports: pytester forgets modules that are first imported in one of its in-process runs."""
    for module in (
        "plugin.parent",
        "report.display",
        "plugin.child",
        "processes.conduct",
        "report.terminal",
        "report.files",
        "plugin.fixture",
    ):
        import_module(f"peftbench.{module}")
    for module in ("altair", "jinja2", "vl_convert"):  # some of their parts can be loaded only once in a process
        import_module(module)
    for module in ("rich.console", "rich.table", "rich.markdown", "xml.etree.ElementTree", "cpuinfo"):
        import_module(module)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Plays the child processes of launches."""
    found = World()
    monkeypatch.setattr(launcher, "run", found.run)
    return found


@pytest.fixture
def project(world: World, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with one benchmark function, whose launches are made up."""
    del world
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_benchmark.plugin,peftbench.plugin")
    pytester.makeini("[pytest]\npython_files = bench_*.py\n")
    pytester.makepyfile(bench_all=TRAIN_STEP)
    return pytester
