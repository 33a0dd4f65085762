from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from peftbench.config.settings import Settings
from peftbench.errors import UserError
from peftbench.matrix.catalogue import Catalogue
from peftbench.records.ids import Case, MethodSpec
from peftbench.studies.base import Study
from peftbench.studies.training import joint
from peftbench.studies.training.job import TrainedModel, TrainingJob, follow
from peftbench.studies.training.multitask import REPLAYS, MultiTaskStudy
from peftbench.studies.training.multitask_model import MultiTaskModel, marked
from peftbench.studies.training.single import task_data_of
from peftbench.workloads.base import Workbench

OpenBench = Callable[..., Workbench]
TASKS = "sentiment+nli+ner"


def joint_case(tasks: str = TASKS, **variant: float) -> Case:
    return Case(MethodSpec("mtl"), tasks, 8).with_variant(**{"seed": 0, "lr": 1e-2, **variant})


def matrix(*tasks: str) -> list[Case]:
    return [Case(MethodSpec(method), task, 8) for task in tasks for method in ("full", "lora")]


def test_all_tasks_are_one_case_a_seed_and_rate(catalogue: Catalogue) -> None:
    settings = Settings(seeds=2, learning_rates=(3e-5,))
    cases = catalogue.workload("multitask").expand(matrix("ner", "nli"), settings)
    assert [case.id for case in cases] == ["mtl-ner+nli-bs8-seed0-lr3e-05", "mtl-ner+nli-bs8-seed1-lr3e-05"]
    assert cases[0].tasks == ("ner", "nli")
    added = catalogue.workload("adding").expand(matrix("ner", "nli"), settings)
    assert [dict(case.variant)["replay"] for case in added] == [*REPLAYS, *REPLAYS]


def test_a_task_alone_is_refused(open_bench: OpenBench, catalogue: Catalogue) -> None:
    study = catalogue.workload("multitask")
    assert isinstance(study, MultiTaskStudy)
    with pytest.raises(UserError, match="multitask takes two tasks or more, not ner alone"):
        study.check(open_bench().backend, study.expand(matrix("ner"), Settings()))


def test_a_training_on_one_task_alone_is_none_of_mtl(open_bench: OpenBench, catalogue: Catalogue) -> None:
    backend = open_bench().backend
    alone, convergence = Case(MethodSpec("mtl"), "nli", 8), catalogue.workload("convergence")
    assert isinstance(convergence, Study)
    reason = "mtl trains several tasks together: --peftbench-workloads=multitask does"
    assert convergence.unsupported_case(alone, backend) == reason
    assert not catalogue.workload("train_step").unsupported_case(alone, backend)


def test_the_tasks_share_one_backbone_and_have_a_head_each(open_bench: OpenBench) -> None:
    bench = open_bench()
    model = joint._fresh(bench, joint_case(), ("ner", "nli"))
    assert {id(one.base_model) for one in model.models} == {id(model.backbone)}
    assert model.backbone.pooler is not None
    own = bench.backend.new_model(task_data_of(bench, "nli").task, 0).eval()
    features = task_data_of(bench, "nli").train[:3]
    collate = task_data_of(bench, "nli").collate
    batch = marked(collate, 1)(features)
    # The same checkpoint and seed: what the shared model says of a task is what a model of its own would.
    torch.testing.assert_close(model.eval()(**batch).logits, own(**collate(features)).logits)
    assert model.head_bytes("nli") == 4 * (32 * 3 + 3)


def test_a_task_with_a_pooler_is_added_to_a_backbone_that_has_one_and_keeps_it(open_bench: OpenBench) -> None:
    bench = open_bench()
    model = joint._fresh(bench, joint_case(), ("nli",))
    pooler = model.backbone.pooler
    model.add("sentiment", bench.backend.new_model(task_data_of(bench, "sentiment").task, 1))
    assert model.backbone.pooler is pooler
    assert [one.base_model for one in model.models] == [model.backbone] * 2
    assert model.tasks == ("nli", "sentiment")


def test_the_shares_that_are_replayed_are_those_of_the_paper() -> None:
    assert REPLAYS == (0.0, 0.05, 0.2)


def test_several_tasks_are_learned_at_once(open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def last_weights(job: TrainingJob, bench: Workbench, *, keep_best: bool) -> TrainedModel:
        assert not keep_best
        return follow(job, bench, keep_best=keep_best)

    monkeypatch.setattr(joint, "follow", last_weights)
    bench = open_bench(epochs=4, eval_every=10, test_data=("test.xx",))
    found = joint.together(joint_case(), bench)
    last = found.curve[-1]
    assert set(last.scores) == {"sentiment", "nli", "ner"}
    assert last.quality == pytest.approx(sum(last.scores.values()) / 3)
    assert found.metrics["quality"].value > 0.6  # type: ignore[operator]
    assert last.examples == 4 * 3 * 40
    assert found.metrics["quality@nli@test.xx"].value is not None
    heads = 4 * 33 * (2 + 3 + 7)
    assert found.metrics["head_bytes"].value == heads
    assert found.metrics["checkpoint_bytes"].value > heads  # type: ignore[operator]


def test_a_task_is_added_to_a_model_that_is_trained_once(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = []

    def counted(job: object, bench: Workbench, *, keep_best: bool) -> object:
        trainings.append(keep_best)
        return follow(job, bench, keep_best=keep_best)  # type: ignore[arg-type]

    monkeypatch.setattr(joint, "follow", counted)
    bench = open_bench(epochs=2, eval_every=5)
    alone, replayed = (joint.added(joint_case(replay=replay), bench) for replay in (0.0, 0.2))
    assert trainings == [True, False, False]
    assert alone.curve[-1].examples == 2 * 40
    assert replayed.curve[-1].examples == 2 * (40 + 8 + 8)
    for found in (alone, replayed):
        best = max(found.curve, key=lambda point: point.quality)
        assert set(best.scores) == {"sentiment", "nli", "ner"}
        assert best.quality == best.scores["ner"]
        before = bench.shared["scores"]
        lost = sum(before[task] - best.scores[task] for task in ("sentiment", "nli")) / 2
        assert found.metrics["forgetting"].value == pytest.approx(lost)
        assert found.metrics["head_bytes"].value == 4 * 33 * 7


def test_an_added_task_brings_the_pooler_that_the_old_ones_did_not_need(open_bench: OpenBench) -> None:
    bench = open_bench(epochs=0.1, eval_every=1)
    found = joint.added(joint_case("ner+qa+nli", replay=0.0), bench)
    assert set(found.curve[-1].scores) == {"ner", "qa", "nli"}
    assert bench.shared["model"].backbone.pooler is None


def test_another_seed_starts_from_another_model(open_bench: OpenBench) -> None:
    bench = open_bench(epochs=0.1, eval_every=1)
    joint.added(joint_case("nli+sentiment", replay=0.0), bench)
    first = bench.shared["model"]
    joint.added(joint_case("nli+sentiment", replay=0.0, seed=1), bench)
    assert bench.shared["model"] is not first
    assert isinstance(first, MultiTaskModel)
    assert first.tasks == ("nli",)


def test_the_target_of_several_tasks_is_reached_when_each_is(open_bench: OpenBench) -> None:
    found = joint.together(joint_case("nli+sentiment"), open_bench(epochs=9, eval_every=5, stop="target", target="0.6"))
    assert found.stop == "target"
    assert min(found.curve[-1].scores.values()) >= 0.6
    assert all(min(point.scores.values()) < 0.6 for point in found.curve[:-1])
