from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch

from peftbench.measure.counters.dispatch import observe
from peftbench.measure.trial import Mark
from peftbench.methods.paper.adapter_drop import LAYER_DROP, LayerDrop
from peftbench.records.ids import Case
from peftbench.records.record import CurvePoint
from peftbench.studies.training.evaluate import length
from peftbench.studies.training.job import TrainingJob, feed, follow, new_learner
from peftbench.studies.training.sampling import epoch
from peftbench.studies.training.single import job_of, train_once
from peftbench.studies.training.work import VARYING_STEPS, count_work
from peftbench.tasks.base import Batch, Features
from peftbench.workloads.base import Workbench

OpenBench = Callable[..., Workbench]
MakeCase = Callable[..., Case]


def without_time(curve: tuple[CurvePoint, ...]) -> list[CurvePoint]:
    return [replace(point, time_s=0.0) for point in curve]


def course_of(bench: Workbench, case: Case) -> TrainingJob:
    return job_of(case, bench, None)


def test_a_seed_gives_the_same_curve_to_the_bit_and_another_seed_another(
    open_bench: OpenBench, training_case: MakeCase
) -> None:
    method = "lora(lora_dropout=0.5)"
    first = train_once(training_case(method), open_bench(), None)
    torch.rand(3)  # whatever was drawn in between
    again = train_once(training_case(method), open_bench(), None)
    other = train_once(training_case(method, seed=1), open_bench(), None)
    assert without_time(first.curve) == without_time(again.curve)
    assert without_time(first.curve) != without_time(other.curve)


@pytest.mark.parametrize("task", ["nli", "ner", "qa"])
def test_full_fine_tuning_learns_and_says_what_it_took(
    open_bench: OpenBench, training_case: MakeCase, task: str
) -> None:
    bench = open_bench(epochs=6, eval_every=15, test_data=("test.xx",))
    found = train_once(training_case(task=task), bench, None)
    value = {name: metric.value for name, metric in found.metrics.items()}
    last = found.curve[-1]
    assert value["quality"] == max(point.quality for point in found.curve) > 0.7
    assert (value["steps"], value["examples"]) == (last.step, last.examples)
    assert value["quality@test.xx"] > 0.6  # type: ignore[operator]
    assert value["training_energy_j"] is None
    assert found.metrics["training_energy_j"].reason
    assert value["peak_bytes"] > 16 * value["total_parameters"]  # type: ignore[operator]
    assert value["checkpoint_bytes"] > 4 * value["total_parameters"]  # type: ignore[operator]
    assert value[{"nli": "accuracy", "ner": "f1", "qa": "f1"}[task]] == value["quality"]


@pytest.mark.parametrize("method", ["full", "pfeiffer", "compacter(reduction_factor=8)", "prefix"])
def test_flops_of_any_length_follow_from_three(open_bench: OpenBench, training_case: MakeCase, method: str) -> None:
    job = course_of(open_bench(), training_case(method, "sentiment"))
    task_data = job.data_by_task["sentiment"]

    work = count_work(new_learner(job), task_data, 8, varies=False)
    fresh = new_learner(job)
    for step_input in islice(feed(job.data_by_task, 8, seed=3), 4):
        with torch.autograd.set_multithreading_enabled(False):
            seen = observe(partial(fresh.step, step_input.batch, 0, lambda: None))
        assert work.flops(step_input.examples, step_input.tokens) == pytest.approx(seen.flops, rel=1e-9)


def test_adapterdrop_is_counted_over_steps_that_differ(open_bench: OpenBench, training_case: MakeCase) -> None:
    bench = open_bench()

    def flops(method: str, *, varies: bool) -> float:
        job = course_of(bench, training_case(method))
        return count_work(new_learner(job), job.data_by_task["nli"], 8, varies=varies).flops(8, 16)

    dropped = flops("adapterdrop(max_dropped=1)", varies=True)
    assert flops("pfeiffer", varies=False) > dropped > flops("head", varies=False)


def test_adapterdrop_is_counted_over_the_same_steps_for_each_length_and_the_first_skips_nothing(
    open_bench: OpenBench, training_case: MakeCase
) -> None:
    bench = open_bench()
    job = course_of(bench, training_case("adapterdrop(max_dropped=1)"))
    learner, seen = new_learner(job), list[tuple[int, int]]()
    drop: LayerDrop = getattr(learner.model, LAYER_DROP)

    def step(batch: Batch, number: int, mark: Mark) -> object:
        seen.append((number, sum(output.dropped_in_training for output in drop.outputs.values())))
        return learner.step(batch, number, mark)

    work = count_work(replace(learner, step=step), job.data_by_task["nli"], 8, varies=True)
    once = [(number, drop.begin(number)) for number in range(1 + VARYING_STEPS)]
    assert len({dropped for _, dropped in once}) == 2
    counted = [one for one in seen[1:] if one[0] >= 0]
    assert counted == once * len(work.counted)
    plain = course_of(bench, training_case("pfeiffer"))
    assert work.peak_bytes == count_work(new_learner(plain), plain.data_by_task["nli"], 8, varies=False).peak_bytes


@pytest.mark.parametrize(
    ("schedule", "warm_up", "clip"), [("linear", "10%", 1.0), ("cosine", "2", 0.1), ("constant", "0", 0.0)]
)
def test_training_is_what_the_trainer_of_transformers_does(
    schedule: str, warm_up: str, clip: float, open_bench: OpenBench, training_case: MakeCase, tmp_path: Path
) -> None:
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainingArguments

    bench = open_bench(
        epochs=1, eval_every=1, stop="budget", schedule=schedule, warm_up=warm_up, clip=clip, weight_decay=0.01
    )
    case = training_case("lora", lr=1e-2)
    job = course_of(bench, case)
    ours = follow(job, bench, keep_best=False)

    task_data = job.data_by_task["nli"]
    order = [row for batch in _rows(job) for row in batch]
    model = job.subject.applied_model()

    class InOrder(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: list[Features] | None = None) -> SequentialSampler:
            return SequentialSampler(dataset or self.train_dataset)

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=job.plan.total_steps,
        per_device_train_batch_size=case.batch_size,
        learning_rate=1e-2,
        warmup_steps={"10%": 0.1}.get(warm_up) or int(warm_up),
        lr_scheduler_type="constant_with_warmup" if schedule == "constant" else schedule,
        max_grad_norm=clip,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = InOrder(
        model=model,
        args=arguments,
        train_dataset=[task_data.train[row] for row in order],
        data_collator=task_data.collate,
        optimizers=(job.subject.optimizer(model), None),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert [point.loss for point in ours.trained.curve] == pytest.approx(losses, abs=1e-4)
    theirs = dict(model.named_parameters())
    for name, parameter in ours.model.named_parameters():
        torch.testing.assert_close(parameter, theirs[name], atol=1e-6, rtol=1e-5)


def _rows(job: TrainingJob) -> list[tuple[int, ...]]:
    lengths = {name: [*map(length, task_data.train)] for name, task_data in job.data_by_task.items()}
    return [draw.rows for draw in epoch(lengths, job.batch_size, job.seed, 0)]
