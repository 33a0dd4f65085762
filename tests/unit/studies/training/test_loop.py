from __future__ import annotations

from collections.abc import Iterable
from itertools import count, repeat

import pytest
import torch

from peftbench.measure.energy.nvml import Reading
from peftbench.measure.time.clock import CpuClock
from peftbench.measure.trial import Mark
from peftbench.studies.training.loop import Learner, StepInput, Trained, TrainingPlan, restore, train
from peftbench.studies.training.stopping import StoppingRule
from peftbench.tasks.base import Batch

FED = StepInput("nli", {}, examples=8, tokens=16)


class Bench:
    """A model of one weight, a clock of one second a reading, and qualities that are given."""

    def __init__(self, qualities: list[float], losses: Iterable[float] | None = None) -> None:
        self.model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.model.weight)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)
        self.qualities = iter(qualities)
        self.losses = iter(losses or repeat(0.5))
        self.rates: list[float] = []
        self.readings = count()

    def step(self, batch: Batch, number: int, mark: Mark) -> torch.Tensor:
        del batch
        assert number == len(self.rates)
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        mark()
        self.optimizer.step()
        with torch.no_grad():
            self.model.weight += 1
        return torch.tensor(next(self.losses))

    def judge(self) -> tuple[float, dict[str, float]]:
        for _ in range(100):
            next(self.readings)  # time that passes in evaluations
        quality = next(self.qualities)
        return quality, {"accuracy": quality}

    def train(self, plan: TrainingPlan, *, keep_best: bool = False, energy: Reading[float] | None = None) -> Trained:
        joules = count(100, 7)
        return train(
            Learner(self.model, self.optimizer, self.step),
            repeat(FED),
            plan,
            self.judge,
            clock=CpuClock(now=lambda: float(next(self.readings))),
            energy_j=lambda: energy or Reading(float(next(joules))),
            flops=lambda step_input: 1000.0 * step_input.tokens,
            keep_best=keep_best,
        )


def test_costs_are_those_of_the_steps_and_evaluations_cost_nothing() -> None:
    trained = Bench([0.5, 0.6, 0.7]).train(TrainingPlan(5, 2, StoppingRule("budget")))
    assert [point.step for point in trained.curve] == [2, 4, 5]
    assert [point.examples for point in trained.curve] == [16, 32, 40]
    assert [point.time_s for point in trained.curve] == [4.0, 8.0, 10.0]  # start, mark, end: two seconds a step
    assert [point.flops for point in trained.curve] == [32_000.0, 64_000.0, 80_000.0]
    assert [point.energy_j for point in trained.curve] == [7.0, 14.0, 21.0]
    assert [point.loss for point in trained.curve] == [0.5, 0.5, 0.5]
    assert trained.step_s == (2.0,) * 5
    assert trained.stop == "budget"


def test_the_learning_rate_rises_and_then_falls_to_zero() -> None:
    bench = Bench([0.5] * 2)
    bench.train(TrainingPlan(20, 10, StoppingRule("budget")))
    assert bench.rates == pytest.approx([0.0, 0.5, *(1 - n / 18 for n in range(18))])


def test_training_ends_by_patience_and_keeps_the_best_weights() -> None:
    bench = Bench([0.5, 0.9, 0.8, 0.9, 0.7])
    trained = bench.train(TrainingPlan(100, 2, StoppingRule("patience", patience_steps=4)), keep_best=True)
    assert (trained.stop, trained.best.step, len(trained.curve)) == ("patience", 4, 4)
    weights = trained.best_weights["weight"].item()
    assert weights == 1 + 4
    assert bench.model.weight.item() == 1 + 8
    restore(bench.model, trained.best_weights)
    assert bench.model.weight.item() == weights


def test_no_weights_are_kept_unless_asked_for() -> None:
    assert Bench([0.5]).train(TrainingPlan(2, 2, StoppingRule("budget"))).best_weights == {}


def test_a_loss_that_is_no_number_is_none_and_joules_that_are_not_known_too() -> None:
    bench = Bench([0.5, 0.5], losses=[1.0, 0.5, float("nan"), 0.5])
    trained = bench.train(TrainingPlan(4, 2, StoppingRule("budget")), energy=Reading(None, "no counter"))
    assert [point.loss for point in trained.curve] == [0.75, None]
    assert [point.energy_j for point in trained.curve] == [None, None]
    assert trained.energy == Reading(None, "no counter")
