"""The training loop. The clock runs during steps, not during evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from peftbench.measure.time.rounds import undisturbed
from peftbench.records.record import CurvePoint
from peftbench.studies.training.schedule import USUAL, Schedule
from peftbench.studies.training.stopping import Stop, StoppingRule, best

if TYPE_CHECKING:
    from peftbench.measure.energy.nvml import Reading
    from peftbench.measure.time.clock import Clock
    from peftbench.measure.trial import Mark
    from peftbench.tasks.base import Batch


@dataclass(frozen=True, slots=True)
class StepInput:
    """The batch of one step, and its size."""

    task: str
    batch: Batch
    """Tensors on the device."""
    examples: int
    tokens: int
    """Tokens of each sequence, padding included."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """When a training is evaluated, and when it ends."""

    total_steps: int
    eval_every: int
    """Steps between two evaluations."""
    rule: StoppingRule
    schedule: Schedule = USUAL


@dataclass(frozen=True, slots=True)
class Learner:
    """A model in training, with its optimizer and its step."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    step: Callable[[Batch, int, Mark], Any]
    """Takes one step and returns the loss, given a batch, the index of the step and a mark."""


@dataclass(frozen=True, slots=True)
class Trained:
    """Curve, cost and weights of a training."""

    curve: tuple[CurvePoint, ...]
    """At least one point."""
    stop: Stop
    step_s: tuple[float, ...]
    """Wall time of each step."""
    energy: Reading[float]
    """Joules of all steps, or the reason why they are not known."""
    best_weights: Mapping[str, torch.Tensor] = field(repr=False)
    """Trained parameters by name at the best point of the curve, on the CPU; empty if they were not kept."""

    @property
    def best(self) -> CurvePoint:
        """The first point of the highest quality."""
        return best(self.curve)


def train(
    learner: Learner,
    feed: Iterator[StepInput],
    plan: TrainingPlan,
    judge: Callable[[], tuple[float, Mapping[str, float]]],
    *,
    clock: Clock,
    energy_j: Callable[[], Reading[float]],
    flops: Callable[[StepInput], float],
    keep_best: bool = False,
) -> Trained:
    """Train until the plan's stopping rule ends it.

    The clock runs only in the steps: forward, backward, clipping and optimizer. Making batches, setting the learning
    rate and evaluating are not timed. Joules are read before and after the steps between two evaluations.

    Args:
        learner: The model to train. It ends with the weights of the last step.
        feed: Yields the input of each step, without end.
        plan: When the training is evaluated, and when it ends.
        judge: Returns the present quality of the model, and all its scores.
        clock: The clock of the device.
        energy_j: Reads the device's energy counter.
        flops: Returns the FLOPs of a step.
        keep_best: Whether the trained weights of the best point are kept.
    """
    meter = _Meter(learner, plan, clock, energy_j, flops)
    curve: list[CurvePoint] = []
    weights: dict[str, torch.Tensor] = {}
    stop: Stop | None = None
    while stop is None:
        loss = meter.run(islice(feed, min(plan.eval_every, plan.total_steps - len(meter.step_s))))
        quality, scores = judge()
        curve.append(meter.point(quality, scores, loss))
        if keep_best and best(curve) is curve[-1]:
            weights = _trained_weights(learner.model)
        stop = plan.rule.reason(curve, plan.total_steps)
    return Trained(tuple(curve), stop, tuple(meter.step_s), meter.energy, weights)


class _Meter:
    """Takes the steps between two evaluations, and sums up time, FLOPs, examples and joules."""

    def __init__(
        self,
        learner: Learner,
        plan: TrainingPlan,
        clock: Clock,
        energy_j: Callable[[], Reading[float]],
        flops: Callable[[StepInput], float],
    ) -> None:
        self.step_s: list[float] = []
        self.energy: Reading[float] = energy_j().map(lambda _: 0.0)
        self._examples = 0
        self._work = 0.0
        self._learner, self._clock, self._energy_j, self._flops = learner, clock, energy_j, flops
        self._schedule = plan.schedule.scheduler(learner.optimizer, plan.total_steps)

    def run(self, feed: Iterator[StepInput]) -> float:
        """Take a step on each input and return the mean loss."""
        losses: list[torch.Tensor] = []
        with undisturbed():
            before = self._energy_j()
            for step_input in feed:
                losses.append(self._step(step_input))
                self._examples += step_input.examples
                self._work += self._flops(step_input)
            after = self._energy_j()
        spent = self.energy.value
        if before.value is not None and spent is not None:
            total, start = spent, before.value
            self.energy = after.map(lambda joules: total + joules - start)
        return float(torch.stack(losses).mean())

    def point(self, quality: float, scores: Mapping[str, float], loss: float) -> CurvePoint:
        """Return the present point of the curve."""
        return CurvePoint(
            step=len(self.step_s),
            examples=self._examples,
            time_s=math.fsum(self.step_s),
            quality=quality,
            scores=scores,
            loss=loss if math.isfinite(loss) else None,
            flops=self._work,
            energy_j=self.energy.value,
        )

    def _step(self, step_input: StepInput) -> torch.Tensor:
        step, number, batch = self._learner.step, len(self.step_s), step_input.batch
        losses: list[torch.Tensor] = []

        def run(mark: Mark) -> None:
            losses.append(step(batch, number, mark))

        self.step_s.append(self._clock.time(run).wall_s)
        self._schedule.step()
        return losses[0].detach().clone()  # the next replay of a CUDA graph overwrites its outputs


def restore(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights, by name, into the parameters of a model."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in weights.items():
            parameters[name].copy_(tensor)


def _trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: parameter.detach().to("cpu", copy=True)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
