"""Runs a few rounds under `torch.profiler`. This is a pass of its own: the profiler slows the host, not the kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from peftbench.devices.failures import is_out_of_memory, is_sticky, one_line
from peftbench.measure.busy.profile import busy_metrics, missing_metrics
from peftbench.measure.busy.trace import PHASE, PROBE, ROUND, Trace, read_trace
from peftbench.records.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from peftbench.measure.trial import Trial
    from peftbench.records.record import KernelTime, Metric

ROUNDS: Final = 3
"""Profiled rounds that are read. One before them, in which CUPTI starts, is not."""


def profile_rounds(trial: Trial, device: torch.device, *, phases: Sequence[str], rounds: int = ROUNDS) -> Trace:
    """Profile rounds of a warm trial, and return the trace. The device is idle before and after each round.

    On a device without CUDA the trace has the rounds, and nothing in them.

    Args:
        trial: The trial.
        device: Its device.
        phases: Names of the phases, at whose ends a round calls its mark.
        rounds: Number of rounds that are read.

    Raises:
        RuntimeError: the profiler cannot be started; or an error of the round itself.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    wanted = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    wait = _waiter(device)
    with scratch_folder() as folder:
        with profile(activities=wanted, acc_events=True) as profiler:  # there is one cycle; torch warns without it
            with record_function(PROBE):
                torch.ones(1, device=device).add_(1)
            wait()
            for number in range(rounds + 1):
                trial.ready(number)
                wait()
                with record_function(ROUND if number else "peftbench warm-up"), _phases(phases) as mark:
                    trial.run(number, mark)
                wait()
        file = folder / "trace.json"
        profiler.export_chrome_trace(str(file))
        return read_trace(file, device=device.index)


def take_busy(
    trial: Trial, device: torch.device, *, phases: Sequence[str], time_s: float
) -> tuple[dict[str, Metric], tuple[KernelTime, ...]]:
    """Return the metrics of `busy_metrics` for a trial on a CUDA device; the reason where there is no profiler.

    Errors of the device and of memory are raised again.
    """
    from torch.profiler import ProfilerActivity, supported_activities

    if ProfilerActivity.CUDA not in supported_activities():  # type: ignore[no-untyped-call] # torch's own
        return missing_metrics("this PyTorch is built without CUPTI, which reports what a device does"), ()
    try:
        trace = profile_rounds(trial, device, phases=phases)
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error) or is_sticky(error):
            raise
        return missing_metrics(f"the profiler failed: {one_line(error)}"), ()
    return busy_metrics(trace, phases=phases, time_s=time_s)


@contextmanager
def _phases(names: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Yield a mark that ends the range of one phase, and begins that of the next."""
    from torch.profiler import record_function

    with ExitStack() as stack:
        coming = iter(names)

        def begin() -> None:
            if name := next(coming, ""):
                stack.enter_context(record_function(PHASE + name))

        def mark() -> None:
            stack.pop_all().close()
            begin()

        begin()
        yield mark


def _waiter(device: torch.device) -> Callable[[], None]:
    import torch

    if device.type != "cuda":
        return lambda: None
    return lambda: torch.cuda.synchronize(device)
