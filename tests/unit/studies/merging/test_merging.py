"""Adapters that become one: against their deltas in closed form, and what is left of quality and bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from tests.records import a_record

from peftbench.config.choices import COMBINATIONS
from peftbench.config.settings import Settings
from peftbench.errors import UnsupportedError, UserError
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.methods.peft.combining import (
    COMBINED,
    AdapterParts,
    Combination,
    CombinedBody,
    combine,
    parts_of,
    size_bytes,
    why_not_combined,
    with_parts,
)
from peftbench.methods.peft.method import PeftMethod
from peftbench.records.ids import Case
from peftbench.records.record import Metric
from peftbench.studies.merging import merged, own_adapters
from peftbench.studies.merging.own_adapters import rates
from peftbench.studies.merging.study import Merging
from peftbench.studies.training.single import job_of, task_data_of
from peftbench.studies.untrained import disturbed
from peftbench.workloads.base import Workbench
from peftbench.workloads.subject import Subject

OpenBench = Callable[..., Workbench]


EARLIER = a_record(
    id="a",
    workload="merging",
    task="nli+sentiment",
    metrics={"lr@nli": Metric(1e-3, "1")},
    variant={"seed": 0, "by": "own"},
)


def case(method: str = "lora", tasks: str = "nli+sentiment", by: str = "linear", seed: int = 0) -> Case:
    return Case(parse_method(method), tasks, 8).with_variant(seed=seed, by=by)


@pytest.fixture
def study(catalogue: Catalogue) -> Merging:
    found = catalogue.workload("merging")
    assert isinstance(found, Merging)
    return found


def subject_of(bench: Workbench, method: str, task: str = "nli") -> Subject:
    return job_of(Case(parse_method(method), task, 8).with_variant(seed=0, lr=1e-2), bench, None).subject


def at_once(run: Callable[[], None]) -> float:
    run()
    return 2.5


def adapters(bench: Workbench, method: str, count: int) -> tuple[PeftMethod, Subject, list[AdapterParts]]:
    """Return adapters that were not trained, and that change what the model computes."""
    subject = subject_of(bench, method)
    models = [disturbed(subject.applied_model(), seed) for seed in range(count)]
    assert isinstance(subject.method, PeftMethod)
    return subject.method, subject, [parts_of(model, subject.fresh_model()) for model in models]


def made(bench: Workbench, method: str, count: int, how: Combination) -> tuple[list[AdapterParts], CombinedBody]:
    tuner, subject, parts = adapters(bench, method, count)
    bodies = [one.body for one in parts]
    found, seconds = combine(tuner, subject.fresh_model(), subject.application, bodies, how, took=at_once)
    assert seconds == 2.5
    return parts, found


def deltas(body: Any, config: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401 - tensors by name, PEFT's configuration
    scale = config.lora_alpha / config.r
    return {
        name.removesuffix("lora_A.weight"): scale * body[name.replace("lora_A", "lora_B")] @ tensor
        for name, tensor in body.items()
        if "lora_A" in name
    }


def own_config(bench: Workbench) -> Any:  # noqa: ANN401 - PEFT's configuration
    subject = subject_of(bench, "lora")
    assert isinstance(subject.method, PeftMethod)
    return subject.method.configuration(subject.fresh_model(), subject.application)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_concatenated_adapters_change_the_weights_by_the_sum_of_their_deltas(
    open_bench: OpenBench, weight: float
) -> None:
    bench = open_bench()
    parts, found = made(bench, "lora", 3, Combination("cat", weight))
    config = own_config(bench)
    alone = [deltas(one.body, config) for one in parts]
    for place, tensor in deltas(found.body, found.config).items():
        torch.testing.assert_close(tensor, weight * sum(one[place] for one in alone))
    assert found.config.r == 3 * config.r
    assert size_bytes(found.body) == 3 * size_bytes(parts[0].body)


def test_svd_is_the_best_approximation_of_that_sum_by_one_rank(open_bench: OpenBench) -> None:
    bench = open_bench()
    parts, found = made(bench, "lora", 3, Combination("svd", 1.0))
    config = own_config(bench)
    alone = [deltas(one.body, config) for one in parts]
    for place, tensor in deltas(found.body, found.config).items():
        whole: torch.Tensor = sum(one[place] for one in alone)  # type: ignore[assignment] # not 0, of three
        lost = torch.linalg.svdvals(whole)[config.r :]
        torch.testing.assert_close(torch.linalg.matrix_norm(tensor - whole), lost.norm())
    assert size_bytes(found.body) == size_bytes(parts[0].body)


def test_ia3_vectors_are_averaged(open_bench: OpenBench) -> None:
    parts, found = made(open_bench(), "ia3", 2, Combination("linear", 0.5))
    for name, tensor in found.body.items():
        torch.testing.assert_close(tensor, (parts[0].body[name] + parts[1].body[name]) / 2)


def test_what_dare_drops_follows_from_the_seed_and_leaves_torch_alone(open_bench: OpenBench) -> None:
    bench = open_bench()
    before = torch.get_rng_state()
    one, same, other = (
        made(bench, "lora", 2, Combination("dare_linear", 1.0, 0.5, seed))[1].body for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_an_adapter_that_is_merged_with_nothing_answers_as_before(open_bench: OpenBench, method: str) -> None:
    bench = open_bench()
    tuner, subject, (parts,) = adapters(bench, method, 1)
    found, _ = combine(
        tuner,
        subject.fresh_model(),
        subject.application,
        [parts.body],
        Combination("ties", 1.0),
        took=at_once,
    )
    data = task_data_of(bench, "nli")
    batch = {name: part for name, part in data.collate(data.train[:4]).items() if name != "labels"}
    own = disturbed(subject.applied_model(), 0).eval()
    again = with_parts(tuner, subject.fresh_model(), subject.application, found, parts.head)
    with torch.inference_mode():
        torch.testing.assert_close(again(**batch).logits, own(**batch).logits)
        assert not torch.allclose(own(**batch).logits, subject.fresh_model().eval()(**batch).logits, atol=1e-3)


@pytest.mark.parametrize("method", ["rslora", "dora"])
def test_a_merge_that_changes_a_single_adapter_is_refused_before_anything_is_trained(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(merged, "own_adapters", lambda *_: pytest.fail("it was trained"))
    with pytest.raises(UnsupportedError, match=f"{method}: PEFT makes another adapter of one that is merged"):
        merged.merge(case(method), open_bench())


def test_peft_combines_what_is_listed_and_nothing_else(catalogue: Catalogue) -> None:
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners import LoraModel

    has = {kind.name for kind in PeftType if hasattr(PEFT_TYPE_TO_TUNER_MAPPING.get(kind), "add_weighted_adapter")}
    assert has - {"ADALORA"} == set(COMBINED)  # AdaLoRA has it in order to refuse
    hints = LoraModel.add_weighted_adapter.__annotations__["combination_type"]
    import peft.tuners.lora.model as module

    offered = set(get_args(eval(hints, vars(module)) if isinstance(hints, str) else hints))  # noqa: S307 - PEFT's own
    assert offered == set(COMBINATIONS)
    reasons = {
        name: why_not_combined(catalogue.method(name), "svd") for name in ("full", "houlsby", "adalora", "ia3", "pissa")
    }
    assert reasons["full"] == "full: PEFT combines adapters of LORA and IA3 only"
    assert all(
        reasons[name].endswith(": PEFT combines adapters of LORA and IA3 only") for name in ("houlsby", "adalora")
    )
    assert reasons["ia3"] == "ia3: PEFT combines its adapters by linear only"
    assert "would spoil the first" in reasons["pissa"]
    assert not why_not_combined(catalogue.method("lora"), "svd")


def test_every_way_is_a_case_of_all_tasks_and_one_task_alone_is_refused(study: Merging, open_bench: OpenBench) -> None:
    matrix = [Case(parse_method(method), task, 8) for task in ("nli", "ner") for method in ("lora", "full")]
    cases = study.expand(matrix, Settings(seeds=1, merge=("cat", "linear")))
    assert [one.id for one in cases if one.method.name == "lora"] == [
        f"lora-nli+ner-bs8-seed0-by{way}" for way in ("own", "cat", "linear", "heads")
    ]
    backend = open_bench().backend
    for one in cases:
        assert bool(study.unsupported_case(one, backend)) == (one.method.name == "full")
    assert "by linear only" in study.unsupported_case(case("ia3", by="cat"), backend)
    with pytest.raises(UserError, match="merging takes two tasks or more, not nli alone"):
        study.check(backend, study.expand(matrix[:2], Settings()))


def test_a_rate_that_an_earlier_case_found_is_taken() -> None:
    asked = (1e-4, 1e-3, 1e-4)
    assert rates(case(seed=1), "nli", asked, [EARLIER]) == [1e-3]
    assert rates(case(seed=1), "sentiment", asked, [EARLIER]) == [1e-4, 1e-3]
    assert rates(case("ia3"), "nli", asked, [EARLIER]) == [1e-4, 1e-3]
    assert rates(case(), "nli", asked, [replace(EARLIER, workload="convergence")]) == [1e-4, 1e-3]


def test_quality_and_bytes_of_each_way_lie_between_the_end_points(
    open_bench: OpenBench, study: Merging, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Case] = []
    original = own_adapters._trained

    def noted(alone: Case, bench: Workbench, seed: int, lr: float) -> own_adapters.OwnAdapter:
        trained.append(alone.with_variant(lr=lr))
        return original(alone, bench, seed, lr)

    monkeypatch.setattr(own_adapters, "_trained", noted)
    bench = open_bench(epochs=8, learning_rates=(1e-4, 3e-2), eval_every=10)
    ways = ("own", "cat", "linear", "heads")
    found = {way: study.conduct(case(tasks="nli+ner", by=way), bench).metrics for way in ways}
    assert len(trained) == 2 * 2  # once for each task and rate, not for each way
    value = {way: {name: metric.value for name, metric in metrics.items()} for way, metrics in found.items()}
    own = value["own"]
    assert (own["quality_ratio"], own["worst_quality_ratio"], own["bytes_ratio"]) == (1.0, 1.0, 1.0)
    assert own["lr@nli"] == 3e-2
    assert own["quality@nli"] > value["heads"]["quality@nli"]  # type: ignore[operator] # all are known
    assert found["own"]["merge_s"].value is None
    first, *_ = own_adapters.own_adapters(case(tasks="nli+ner"), bench)
    head, body = 4 * 33 * (3 + 7), size_bytes(first.parts.body)
    assert value["heads"]["stored_bytes"] == head
    assert own["stored_bytes"] == value["cat"]["stored_bytes"] == head + 2 * body
    assert value["linear"]["stored_bytes"] == head + body
    assert value["linear"]["bytes_ratio"] == (head + body) / (head + 2 * body)
    for way in ways[1:]:
        ratios = [value[way][f"quality@{task}"] / own[f"quality@{task}"] for task in ("nli", "ner")]  # type: ignore[operator]
        assert value[way]["quality_ratio"] == pytest.approx(sum(ratios) / 2)
        assert value[way]["worst_quality_ratio"] == min(ratios)
    assert found["cat"]["merge_s"].value is not None
    earlier = replace(EARLIER, task="nli+ner", metrics=found["own"])
    again = merged.merge(case(tasks="nli+ner", by="cat"), replace(bench, shared={}, records=(earlier,)))
    assert len(trained) == 2 * 2 + 2  # after a resume: the rates are known
    changed = {"merge_s", "training_s"}
    assert {k: v for k, v in again.metrics.items() if k not in changed} == {
        k: v for k, v in found["cat"].items() if k not in changed
    }


def test_one_adapter_alone_loses_nothing(open_bench: OpenBench) -> None:
    found = merged.merge(case(tasks="nli", by="svd"), open_bench(epochs=4))
    assert found.metrics["quality_ratio"].value == found.metrics["worst_quality_ratio"].value == 1.0
    assert found.metrics["bytes_ratio"].value == 1.0


def test_an_adapter_that_scores_nothing_has_no_ratio() -> None:
    def own(task: str, quality: float) -> own_adapters.OwnAdapter:
        parts = AdapterParts({"a": torch.zeros(2)}, {"b": torch.zeros(1)})
        return own_adapters.OwnAdapter(task, None, parts, quality, 1e-3, 1.0)  # type: ignore[arg-type] # unused

    pair: Sequence[own_adapters.OwnAdapter] = [own("nli", 0.5), own("ner", 0.0)]
    metrics = merged._metrics(pair, [0.5, 0.1], 12, 0.1)
    assert metrics["quality_ratio"].value is metrics["worst_quality_ratio"].value is None
    assert metrics["quality_ratio"].reason == "the own adapter of ner scores nothing"
    assert metrics["bytes_ratio"].value == 0.5
