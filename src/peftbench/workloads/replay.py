"""A trial whose rounds replay a CUDA graph of the whole round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from peftbench.devices.graphs import CapturedGraph, capture
from peftbench.errors import UnsupportedError
from peftbench.records.record import Metric

if TYPE_CHECKING:
    import torch

    from peftbench.devices.execution import Execution
    from peftbench.measure.trial import Mark, Trial
    from peftbench.tasks.base import Batch


class Replay:
    """Rounds of one captured function. It captures in its first round, and replays in each.

    A graph reads its inputs from fixed places. Each round copies its batch there first, on the device, as a training
    with graphs does; this belongs to the round.
    """

    def __init__(self, body: Callable[[Batch], object], batches: Sequence[Batch], device: torch.device) -> None:
        self._body, self._batches, self._device = body, batches, device
        self._inputs: Batch = {}
        self._graph: CapturedGraph | None = None

    def round(self, number: int, mark: Mark) -> None:
        """Run round `number`. The graph has no phases, so the mark is not called."""
        del mark
        graph = self._graph or self._captured()
        for name, part in self._batches[number % len(self._batches)].items():
            self._inputs[name].copy_(part)
        graph.replay()

    def metrics(self) -> Mapping[str, Metric]:
        """Return what the capture took, and the memory that the graph holds; nothing before the first round."""
        graph = self._graph
        if graph is None:
            return {}
        return {
            "capture_s": Metric(graph.capture_s, "s", noise="sampled"),
            "graph_bytes": Metric(graph.pool_bytes, "B", noise="sampled"),
        }

    def close(self) -> None:
        """Free the graph and its memory."""
        if self._graph is not None:
            self._graph.reset()
        self._graph, self._inputs = None, {}

    def _captured(self) -> CapturedGraph:
        self._inputs = {name: part.clone() for name, part in self._batches[0].items()}
        self._graph = capture(lambda: self._body(self._inputs), self._device)
        return self._graph


def executed(
    trial: Trial, execution: Execution, body: Callable[[Batch], object], batches: Sequence[Batch], device: torch.device
) -> Trial:
    """Return a trial that runs its rounds as the execution says. An eager trial stays as it is.

    Args:
        trial: The trial, with rounds of the plain or the compiled model.
        execution: How rounds are executed.
        body: One round on a given batch.
        batches: Batches on the device, all of one shape.
        device: The device.

    Raises:
        UnsupportedError: the rounds of the trial cannot be replayed; says why.
    """
    if execution.compiles_to_graphs and device.type == "cuda":
        return replace(trial, run=_new_outputs(trial.run))
    if not execution.captures:
        return trial
    if trial.chained:
        raise UnsupportedError("CUDA graph: each step of the method does something else, and a graph always the same")
    groups = trial.optimizer.param_groups if trial.optimizer is not None else ()
    if not all(group.get("capturable") for group in groups):
        raise UnsupportedError("CUDA graph: the method's own optimizer is not capturable")
    replay = Replay(body, batches, device)
    return replace(trial, run=replay.round, eager=trial.run, found=replay.metrics, close=replay.close)


def _new_outputs(run: Callable[[int, Mark], object]) -> Callable[[int, Mark], object]:
    """Return the round, which tells torch.compile first that nobody reads the outputs of the last one any more."""
    from torch.compiler import cudagraph_mark_step_begin

    def begun(number: int, mark: Mark) -> object:
        cudagraph_mark_step_begin()  # type: ignore[no-untyped-call] # torch's own
        return run(number, mark)

    return begun
