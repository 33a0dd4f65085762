"""The counters of a workload: what it does, counted exactly, equal from launch to launch and machine to machine.

Three calls of the workload, each under one probe, so that none disturbs another: one sees what autograd saves, one
every operator and storage, one every bytecode. No clock is involved.
"""

from __future__ import annotations

import gc
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch

from peftbench.measure.counters.bytecode import PythonWork, trace
from peftbench.measure.counters.dispatch import OperatorWork, observe
from peftbench.measure.counters.parameters import Parameters, count_parameters
from peftbench.measure.counters.storages import saved_bytes
from peftbench.records.record import Metric


@dataclass(frozen=True, slots=True)
class Counters:
    """What one round of a workload does."""

    operators: OperatorWork
    saved_bytes: int
    """Storages that autograd kept for backward, each once, without parameters and buffers."""
    python: PythonWork
    parameters: Parameters

    def metrics(self) -> Mapping[str, Metric]:
        """Return the counters as metrics of a record: exact, and better when lower."""
        numbers = {
            "flops": (self.operators.flops, "FLOP"),
            "operator_calls": (sum(self.operators.operators.values()), "1"),
            "saved_bytes": (self.saved_bytes, "B"),
            "peak_live_bytes": (self.operators.peak_live_bytes, "B"),
            "allocations": (self.operators.allocations, "1"),
            "python_calls": (self.python.calls, "1"),
            "bytecodes": (self.python.bytecodes, "1"),
        }
        counted = {name: Metric(value=value, unit=unit) for name, (value, unit) in numbers.items()}
        return {**counted, **self.parameters.metrics()}


def count(
    run: Callable[[], object],
    model: torch.nn.Module,
    *,
    heads: frozenset[str],
    seed: int = 0,
    reset: Callable[[], object] | None = None,
) -> Counters:
    """Call `run` three times and return what one call of it does.

    The numbers are equal from run to run only if `run` does the same each time: it must be warm (a step or two taken
    already: optimizer state, caches and imports of the first step are no part of it).

    Args:
        run: One round of a workload.
        model: The model it works on.
        heads: Names of the modules that are the task head.
        seed: Of torch's and Python's generators, set before each call; both are put back at the end.
        reset: Called before each call of `run`, uncounted; undoes what makes one round differ from the next.

    Raises:
        UnsupportedError: bytecodes cannot be counted, since other tools hold the interpreter's monitoring.
    """
    with _calm(model):
        _prepare(seed, reset)
        saved = saved_bytes(run, kept=chain(model.parameters(), model.buffers()))
        _prepare(seed, reset)
        operators = observe(run)
        _prepare(seed, reset)
        python = trace(run)
    return Counters(operators=operators, saved_bytes=saved, python=python, parameters=count_parameters(model, heads))


def _prepare(seed: int, reset: Callable[[], object] | None) -> None:
    if reset is not None:
        reset()
    torch.manual_seed(seed)
    random.seed(seed)


@contextmanager
def _calm(model: torch.nn.Module) -> Iterator[None]:
    """Keep away what strikes at odd times: garbage collection, warnings' first showing, backward's own threads."""
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    generator = random.getstate()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with (
            torch.random.fork_rng(devices),
            torch.autograd.set_multithreading_enabled(False),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(generator)
        if was_enabled:
            gc.enable()
