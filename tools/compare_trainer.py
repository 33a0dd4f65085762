"""Trains one method with peftbench and with transformers' Trainer, on the same data with the same settings.

    python tools/compare_trainer.py --model ./minilm --data ./data --task nli --method full --steps 40

Both take the same batches in the same order, and start from the same weights with the same optimizer, schedule and
clipping. It prints the quality that both reach, the loss of the last steps, and the ratio of their step times.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from peftbench.config.settings import Settings
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.time.clock import clock_for
from peftbench.measure.time.frames import with_room
from peftbench.records.ids import Case
from peftbench.studies.base import Desk
from peftbench.studies.training.evaluate import length
from peftbench.studies.training.job import TrainingJob, follow, judge, plan_for
from peftbench.studies.training.loop import MAX_NORM, WARM_UP, TrainingPlan
from peftbench.studies.training.sampling import steps
from peftbench.studies.training.single import material_of, subject_of
from peftbench.workloads.backend import Backend

WARM = 3
"""Number of first steps whose times are left out."""


class InOrder(Trainer):  # type: ignore[misc] # untyped library
    """A trainer that takes the examples in the order in which they are given."""

    def _get_train_sampler(self, dataset: Any = None) -> SequentialSampler:  # noqa: ANN401 - as Trainer has it
        return SequentialSampler(dataset or self.train_dataset)


class StepClock(TrainerCallback):  # type: ignore[misc] # untyped library
    """Measures the time between the callbacks at the begin and at the end of a step."""

    def __init__(self, device: torch.device) -> None:
        self.step_s: list[float] = []
        self._device = device
        self._start = 0.0

    def on_step_begin(self, *_: object, **__: object) -> None:
        """Start the clock, when a batch is ready."""
        self._start = self._now()

    def on_step_end(self, *_: object, **__: object) -> None:
        """Stop the clock, when the gradients are cleared."""
        self.step_s.append(self._now() - self._start)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def main() -> None:
    """Train twice and compare."""
    arguments = _arguments()
    settings = replace(
        Settings(), model=arguments.model, data=arguments.data, seq_len=arguments.seq_len, eval_rows=arguments.eval_rows
    )
    catalogue = Catalogue.load()
    torch.set_num_threads(arguments.threads)
    backend = Backend.open(settings, catalogue, [catalogue.task(arguments.task)])
    case = Case(parse_method(arguments.method), arguments.task, arguments.batch_size)
    case = case.with_variant(seed=0, lr=arguments.lr)
    desk = Desk(backend, clock_for(backend.device), ())
    material = material_of(desk, case.task)
    rule = plan_for(replace(settings, stop="budget"), {case.task: 1}, case.batch_size, None).rule
    plan = TrainingPlan(arguments.steps, arguments.steps, rule)
    subject = subject_of(case, backend, material, plan.total_steps)
    course = TrainingJob(subject, subject.applied_model, {case.task: material}, case.batch_size, 0, plan)

    print(f"{arguments.method} on {case.task}: {arguments.steps} steps of {case.batch_size}")
    quotients = []
    for _ in range(arguments.repeats):  # in turn, so that whatever drifts hits both
        ours = with_room(partial(follow, course, desk, keep_best=False)).trained
        quality, step_s = with_room(partial(_by_trainer, course, arguments.steps, arguments.lr))
        ours_s, theirs_s = statistics.median(ours.step_s[WARM:]), statistics.median(step_s[WARM:])
        quotients.append(ours_s / theirs_s)
        print(f"{material.metric}: harness {ours.best.quality:.4f}, Trainer {quality:.4f}, ", end="")
        print(f"difference {ours.best.quality - quality:+.4f}; ", end="")
        print(f"median step: harness {ours_s:.4f} s, Trainer {theirs_s:.4f} s, quotient {quotients[-1]:.3f}")
    print(f"median quotient of the step times {statistics.median(quotients):.3f}")


def _by_trainer(course: TrainingJob, count: int, lr: float) -> tuple[float, list[float]]:
    """Train with transformers' Trainer; return quality and step times."""
    ((task, material),) = course.materials.items()
    lengths = {task: [*map(length, material.train)]}
    draws = islice(steps(lengths, course.batch_size, course.seed), count)
    device = material.collate(material.train[:1])["input_ids"].device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(course.seed)
        model = course.build().train()
        clock = StepClock(device)
        trainer = InOrder(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                max_steps=count,
                per_device_train_batch_size=course.batch_size,
                learning_rate=lr,
                warmup_steps=WARM_UP,
                lr_scheduler_type="linear",
                max_grad_norm=MAX_NORM,
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
                use_cpu=device.type == "cpu",
                disable_tqdm=True,
                remove_unused_columns=False,
                dataloader_pin_memory=False,
                seed=course.seed,
            ),
            train_dataset=[material.train[row] for draw in draws for row in draw.rows],
            data_collator=material.collate,
            optimizers=(course.subject.optimizer(model), None),
            callbacks=[clock],
        )
        torch.manual_seed(course.seed)
        trainer.train()
        return judge(model, course)[0], clock.step_s


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", default="nli")
    parser.add_argument("--method", default="full")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--seq-len", type=int, default=64)
    parser.add_argument("--eval-rows", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
