from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from peftbench.config.settings import Settings
from peftbench.measure.counters.dispatch import observe
from peftbench.measure.energy.nvml import Reading
from peftbench.measure.trial import Mark
from peftbench.methods.paper.adapter_drop import LAYER_DROP, LayerDrop
from peftbench.records.ids import Case
from peftbench.records.record import CurvePoint
from peftbench.studies.training import job as job_module
from peftbench.studies.training import work
from peftbench.studies.training.evaluate import length
from peftbench.studies.training.job import TrainedModel, TrainingJob, feed, follow, new_learner, plan_for
from peftbench.studies.training.loop import Trained
from peftbench.studies.training.sampling import epoch
from peftbench.studies.training.single import findings, job_of, train_once
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

    counted = count_work(new_learner(job), task_data, 8, varies=False)
    fresh = new_learner(job)
    for step_input in islice(feed(job.data_by_task, 8, seed=3), 4):
        with torch.autograd.set_multithreading_enabled(False):
            seen = observe(partial(fresh.step, step_input.batch, 0, lambda: None))
        assert counted.flops(step_input.examples, step_input.tokens) == pytest.approx(seen.flops, rel=1e-9)


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

    found = count_work(replace(learner, step=step), job.data_by_task["nli"], 8, varies=True)
    once = [(number, drop.begin(number)) for number in range(1 + VARYING_STEPS)]
    assert len({dropped for _, dropped in once}) == 2
    counted = [one for one in seen[1:] if one[0] >= 0]
    assert counted == once * len(found.counted)
    plain = course_of(bench, training_case("pfeiffer"))
    assert found.peak_bytes == count_work(new_learner(plain), plain.data_by_task["nli"], 8, varies=False).peak_bytes


@pytest.mark.parametrize(("varies", "flops", "peak"), [(True, 4.5, 108), (False, 1.0, 101)])
def test_flops_are_those_of_the_steps_after_the_first_and_memory_is_that_of_the_largest(
    open_bench: OpenBench,
    training_case: MakeCase,
    monkeypatch: pytest.MonkeyPatch,
    *,
    varies: bool,
    flops: float,
    peak: int,
) -> None:
    """Steps are played: step n takes n FLOPs, and 100 + n bytes."""

    def played(step: partial[object]) -> SimpleNamespace:
        number = step.args[1]
        return SimpleNamespace(flops=float(number), peak_live_bytes=100 + number)

    monkeypatch.setattr(work, "observe", played)
    job = course_of(open_bench(), training_case("bitfit"))
    found = count_work(new_learner(job), job.data_by_task["nli"], 8, varies=varies)
    assert {one for _, one in found.counted} == {flops}
    held = 4 * sum(parameter.numel() for parameter in job.build().parameters())
    assert found.peak_bytes - peak > held
    assert (found.peak_bytes - peak) % 4 == 0


def test_steps_differ_where_the_method_has_a_hook_for_them(
    open_bench: OpenBench, training_case: MakeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(job_module, "count_work", lambda *_, varies: told.append(varies))
    for method in ("adapterdrop(max_dropped=1)", "pfeiffer"):
        job_module._count(course_of(open_bench(), training_case(method)))
    assert told == [True, False]


def test_a_training_is_evaluated_four_times_an_epoch_unless_steps_are_given() -> None:
    settings = Settings(epochs=1.5, patience=0.5)
    plan = plan_for(settings, {"nli": 80, "ner": 79}, 4, 0.7)
    assert (plan.total_steps, plan.eval_every) == (60, 10)
    assert (plan.rule.patience_steps, plan.rule.target, plan.rule.stop) == (20, 0.7, settings.stop)
    assert plan_for(replace(settings, eval_every=7), {"nli": 80}, 4, None).eval_every == 7


@pytest.mark.parametrize(("losses", "lost"), [((0.5, 0.4), None), ((0.5, None, None), 20), ((None,), 10)])
def test_a_loss_that_was_not_finite_is_warned_of_with_its_first_step(
    losses: tuple[float | None, ...], lost: int | None
) -> None:
    curve = tuple(
        CurvePoint(step=10 * number, examples=8, time_s=1.0, quality=0.5, loss=loss)
        for number, loss in enumerate(losses, start=1)
    )
    trained = Trained(curve, "budget", (1.0,), Reading(None, "none"), {})
    found = findings(TrainedModel(torch.nn.Identity(), trained, 0, {}), {})
    assert found.curve == curve
    assert [f"by step {lost}:" in warning for warning in found.warnings] == ([True] if lost else [])


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
