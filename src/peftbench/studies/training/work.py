"""FLOPs and memory of training steps, counted on similar steps outside the training."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Final

from peftbench.measure.counters.counting import undisturbing
from peftbench.measure.counters.dispatch import observe
from peftbench.measure.memory.device_memory import parts
from peftbench.measure.trial import nothing
from peftbench.studies.training.evaluate import length

if TYPE_CHECKING:
    from peftbench.studies.training.loop import Learner
    from peftbench.studies.training.task_data import TaskData
    from peftbench.tasks.base import Batch, Features

VARYING_STEPS: Final = 8
"""Number of steps after step 0 over which FLOPs are averaged if the steps of a method differ."""


@dataclass(frozen=True, slots=True)
class StepWork:
    """FLOPs and memory of a step on one task."""

    batch_size: int
    counted: tuple[tuple[int, float], ...]
    """Pairs of tokens of a sequence and FLOPs of a step on a whole batch; one to three of them."""
    peak_bytes: int
    """Weights, gradients, optimizer state and the largest peak that a step adds."""

    def flops(self, examples: int, tokens: int) -> float:
        """Return the FLOPs of a step on `examples` sequences of `tokens` tokens.

        A transformer's FLOPs are a polynomial of degree two in the number of tokens. Three points determine it.
        """
        total = 0.0
        for this, flops in self.counted:
            share = 1.0
            for other, _ in self.counted:
                if other != this:
                    share *= (tokens - other) / (this - other)
            total += share * flops
        return total * examples / self.batch_size


def count_work(learner: Learner, task_data: TaskData, batch_size: int, *, varies: bool) -> StepWork:
    """Count steps on the shortest, the middle and the longest sequences. The steps spoil the model.

    If steps differ, the same ones are taken for each length. Step 0 can be larger than all others but happens only
    once, so it counts for the memory, not for the FLOPs.

    Args:
        learner: A learner of the same kind as the one that is trained.
        task_data: The examples of the task.
        batch_size: Batch size of the training.
        varies: Whether the steps of the method differ.
    """
    lengths = sorted(map(length, task_data.train))
    chosen = sorted({lengths[0], lengths[len(lengths) // 2], lengths[-1]})
    numbers = range(1 + VARYING_STEPS) if varies else (1,)
    counted, peak_bytes = [], 0
    with ExitStack() as stack:
        stack.callback(gc.collect)  # what the steps held is given back before the training
        stack.enter_context(undisturbing(learner.model))
        longest = _batch(task_data, lengths[-1], batch_size)
        learner.step(longest, 0, nothing)  # creates the optimizer's state
        owned = parts(learner.model, learner.optimizer)
        held_bytes = owned.weights_bytes + owned.gradients_bytes + owned.optimizer_bytes
        for tokens in chosen:
            batch = _batch(task_data, tokens, batch_size)
            if varies:
                learner.step(batch, -1, nothing)  # the end of a step sets up the next one: -1 sets up step 0
            seen = [observe(partial(learner.step, batch, number, nothing)) for number in numbers]
            counted.append((tokens, fmean(work.flops for work in seen[-VARYING_STEPS:])))
            peak_bytes = max(peak_bytes, *(held_bytes + work.peak_live_bytes for work in seen))
    return StepWork(batch_size, tuple(counted), peak_bytes)


def _batch(task_data: TaskData, tokens: int, batch_size: int) -> Batch:
    """Return a batch whose longest sequence has `tokens` tokens."""
    longest = next(features for features in task_data.train if length(features) == tokens)
    shorter: Sequence[Features] = [features for features in task_data.train[:batch_size] if length(features) < tokens]
    return task_data.collate([longest, *shorter, *[longest] * batch_size][:batch_size])
