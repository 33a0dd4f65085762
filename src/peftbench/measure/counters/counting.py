"""The counters of a workload: exact counts of its work, equal from launch to launch and from machine to machine.

The workload is called three times, each time under one probe, so that no probe disturbs another. The first probe sees
what autograd saves, the second every operator and storage, the third every bytecode. No clock is involved.
"""

from __future__ import annotations

import gc
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from peftbench.devices.seeding import seed_generators
from peftbench.measure.counters.bytecode import PythonWork, trace
from peftbench.measure.counters.dispatch import OperatorWork, observe
from peftbench.measure.counters.parameters import Parameters, count_parameters
from peftbench.measure.counters.storages import saved_bytes
from peftbench.methods.quantized.storage import held_tensors
from peftbench.records.record import Metric


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of one round of a workload."""

    operators: OperatorWork
    saved_bytes: int
    """Bytes of the storages that autograd kept for backward, each counted once, without parameters and buffers."""
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
    """Call `run` three times and return the counters of one call.

    The numbers are equal from run to run only if `run` does the same each time. It must therefore be warm: a first
    step, which makes optimizer state, fills caches and imports modules, has been taken before.

    Args:
        run: One round of a workload.
        model: The model it works on.
        heads: Names of the modules that are the task head.
        seed: Seed of torch's and Python's generators, set before each call. Both are put back at the end.
        reset: Called before each call of `run` and not counted. It undoes what makes one round differ from the next.

    Raises:
        UnsupportedError: bytecodes cannot be counted, since other tools hold all tool ids of `sys.monitoring`.
    """
    with _repeatable(model):
        _prepare(seed, reset)
        saved = saved_bytes(run, kept=held_tensors(model))
        _prepare(seed, reset)
        operators = observe(run)
        _prepare(seed, reset)
        python = trace(run)
    return Counters(operators=operators, saved_bytes=saved, python=python, parameters=count_parameters(model, heads))


def _prepare(seed: int, reset: Callable[[], object] | None) -> None:
    if reset is not None:
        reset()
    seed_generators(seed)
    random.seed(seed)


@contextmanager
def undisturbing(model: torch.nn.Module) -> Iterator[None]:
    """Run backward in this thread, where it is counted, and put all random generators back at the end."""
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    generator = random.getstate()
    try:
        with torch.random.fork_rng(devices), torch.autograd.set_multithreading_enabled(False):
            yield
    finally:
        random.setstate(generator)


@contextmanager
def _repeatable(model: torch.nn.Module) -> Iterator[None]:
    """Switch off what would change counts from run to run: garbage collection, warnings, backward's own threads."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with undisturbing(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if was_enabled:
            gc.enable()
