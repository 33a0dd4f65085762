"""What a protocol names is what a training does: read off the training itself, not off the settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from peftbench.config.settings import Settings
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.time.clock import CpuClock
from peftbench.measure.trial import nothing
from peftbench.records.ids import Case, MethodSpec
from peftbench.studies.training import joint
from peftbench.studies.training.job import TrainingJob, feed, new_learner
from peftbench.studies.training.single import job_of, task_data_of
from peftbench.workloads.backend import Backend
from peftbench.workloads.base import Workbench

Open = Callable[..., Workbench]


@pytest.fixture
def under(catalogue: Catalogue) -> Open:
    """Opens a model and data under a protocol, and nothing else."""

    def open_(protocol: str, task: str, model: Path, data: Path) -> Workbench:
        settings = Settings.read({"protocol": protocol, "model": str(model), "data": str(data), "device": "cpu"})
        return Workbench(Backend.open(settings, catalogue, [catalogue.task(task)]), CpuClock(), records=())

    return open_


def the_case(bench: Workbench, catalogue: Catalogue, method: str, task: str) -> Case:
    """Return the only training of a method on a task that the settings ask for."""
    study: Any = catalogue.workload("convergence")
    settings = bench.backend.settings
    (case,) = study.expand([Case(parse_method(method), task, size) for size in settings.batch_sizes], settings)
    return case  # type: ignore[no-any-return]


def rates(job: TrainingJob, optimizer: torch.optim.Optimizer, *numbers: int) -> list[float]:
    """Return the learning rates of some steps."""
    schedule = job.plan.schedule.scheduler(optimizer, job.plan.total_steps)
    factor = schedule.lr_lambdas[0]
    return [group["initial_lr"] * factor(number) for number in numbers for group in optimizer.param_groups[:1]]


def test_pefts_comparison_is_trained_as_its_protocol_says(
    under: Open, catalogue: Catalogue, tiny_decoder: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_decoder, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 1024}))
    for split in ("train", "validation"):
        rows = [{"prompt": "the " * (9 * n + 1), "completion": f" some {n} tarts and {n}"} for n in range(12)]
        rows.append({"prompt": "the " * 700, "completion": " 7" * 100})
        (tmp_path / "sft").mkdir(exist_ok=True)
        (tmp_path / f"sft/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    bench = under("peft-metamathqa", "sft", model, tmp_path)
    case = the_case(bench, catalogue, "lora", "sft")
    assert (case.seed, case.learning_rate, case.batch_size) == (0, 1e-4, 4)
    job, task_data = job_of(case, bench, None), task_data_of(bench, "sft")
    assert (job.plan.total_steps, job.plan.eval_every, job.plan.rule.stop) == (5000, 250, "budget")
    assert (job.max_norm, job.group_by_length, job.seed) == (1.0, True, 0)
    assert task_data.longest == 768  # cut to it
    assert task_data.metric == "exact_match"
    questions = task_data.validation.streamed.args[1]  # type: ignore[union-attr] # a partial
    assert (questions.reading, questions.most_tokens) == ("last-number", 300)
    assert questions.expected[3] == "3"

    learner = new_learner(job)
    kinds = {name.partition("lora_")[1]: p.dtype for name, p in learner.model.named_parameters()}
    assert kinds == {"": torch.bfloat16, "lora_": torch.float32}  # PEFT keeps new weights in float32
    assert not job.subject.precision.autocast
    (group,) = learner.optimizer.param_groups
    assert isinstance(learner.optimizer, torch.optim.AdamW)
    assert group["weight_decay"] == 0.1
    assert rates(job, learner.optimizer, 250, 500, 2750, 5000) == pytest.approx([5e-5, 1e-4, 5e-5, 0])
    sizes = [one.examples for one in islice(feed(job.data_by_task, job.batch_size, 0, group_by_length=True), 4)]
    assert sorted(sizes) == [1, 4, 4, 4]


def test_the_papers_trainings_are_as_its_protocol_says(
    under: Open, catalogue: Catalogue, tiny_model: Path, tiny_data: Path
) -> None:
    bench = under("adapter-efficiency", "nli", tiny_model, tiny_data)
    case = the_case(bench, catalogue, "lora", "nli")
    assert (case.seed, case.learning_rate, case.batch_size) == (0, 3e-5, 32)
    job = job_of(case, bench, None)
    assert job.plan.total_steps == 50 * 2  # 40 rows
    assert (job.plan.rule.stop, job.plan.rule.patience_steps) == ("patience", 3 * 2)
    learner = new_learner(job)
    assert {p.dtype for p in learner.model.parameters()} == {torch.float32}
    precision = job.subject.precision
    assert (precision.dtype, precision.autocast) == ("float16", True)
    assert precision.scaler(torch.device("cpu")) is not None
    assert learner.optimizer.param_groups[0]["weight_decay"] == 0.1
    assert rates(job, learner.optimizer, 50) == pytest.approx([3e-5 * 50 / 2000])
    first = next(feed(job.data_by_task, job.batch_size, 0))
    assert (first.examples, first.tokens) == (32, 64)  # all that the model takes: the rows are shorter
    assert torch.isfinite(learner.step(first.batch, 0, nothing))

    several = Case(MethodSpec("mtl"), "nli+sentiment", 32).with_variant(seed=0, lr=3e-5)
    data = joint._data_by_task(bench, several.tasks)
    both = joint._job(several, bench, data, lambda: torch.nn.Linear(1, 1))
    assert both.plan.total_steps == 10 * (2 + 2)
    assert both.subject.optimization.weight_decay == 0.01
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=3e-5)
    assert rates(both, optimizer, 40) == pytest.approx([3e-5 * 40 / 10_000])
