"""What tests of studies share: a tiny model and data, opened as a run does."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from peftbench.config.settings import Settings
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.time.clock import CpuClock
from peftbench.workloads.backend import Backend
from peftbench.workloads.base import Workbench

SETTINGS = Settings(epochs=1, eval_every=2, seq_len=32, learning_rates=(1e-2,), seeds=1)


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return Catalogue.load()


@pytest.fixture
def open_bench(tiny_model: Path, tiny_data: Path, catalogue: Catalogue) -> Callable[..., Workbench]:
    """Opens the tiny model and data, under settings that are changed by keywords."""

    def open_(task: str = "nli", **changes: object) -> Workbench:
        settings = replace(SETTINGS, **{"model": str(tiny_model), "data": str(tiny_data), **changes})  # type: ignore[arg-type]
        backend = Backend.open(settings, catalogue, [catalogue.task(task)])
        return Workbench(backend, CpuClock(), records=())

    return open_


@pytest.fixture(autouse=True, scope="session")
def _as_the_runner_does() -> Iterator[None]:
    """Compute on one thread, and keep what was imported away from the garbage collector."""
    import peft  # noqa: F401

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)
