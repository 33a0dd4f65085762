from importlib import import_module

import pytest
import torch
from tests.plugin.running import Run

from peftbench import building
from peftbench.api import apply_method
from peftbench.catalogue import Catalogue
from peftbench.models import PRESETS, ModelSource

BENCH = """
from peftbench import bench

@bench("train_step")
def train_step(peft_case):
    peft_case.measure()

@bench("inference")
def inference(peft_case):
    peft_case.measure()
"""

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
        "peftbench.fixture",
        "peftbench.report.terminal",
        "peftbench.runfile",
        "rich.markdown",
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
def run(benches: pytest.Pytester) -> Run:
    """Runs pytest on that project with a small matrix and further arguments."""
    return lambda *arguments: benches.runpytest_inprocess(*SMALL, *arguments)
