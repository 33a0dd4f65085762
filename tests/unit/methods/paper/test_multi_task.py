"""Multi-task fine-tuning trains one encoder and a head a task, one of them in each step."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, cast

import pytest
import torch

from peftbench.errors import UnsupportedError, UserError
from peftbench.matrix.cases import select_methods
from peftbench.matrix.catalogue import Catalogue
from peftbench.methods.base import Application
from peftbench.methods.paper.multi_task import METHODS, TASK_TURNS
from peftbench.methods.paper.multi_task_modules import TaskHeads, TaskTurns
from peftbench.records.ids import MethodSpec
from peftbench.validity.check import check
from peftbench.workloads.subject import Subject

if TYPE_CHECKING:
    from tests.unit.methods.conftest import Lab

    from peftbench.tasks.base import Batch

(MTL,) = METHODS


def applied(lab: Lab, tasks: int = 3, seed: int = 0, **changes: object) -> torch.nn.Module:
    return MTL.apply(lab.encoder(**changes), lab.application({"tasks": tasks}, seed))  # type: ignore[arg-type]


def heads_of(model: torch.nn.Module) -> TaskHeads:
    return cast("TaskHeads", model.classifier)


@pytest.mark.parametrize("tasks", [2, 3, 8])
def test_each_task_has_its_turn_once_in_as_many_steps_and_the_first_one_begins(lab: Lab, tasks: int) -> None:
    turns: TaskTurns = getattr(applied(lab, tasks), TASK_TURNS)
    order = [turns.begin(step) for step in range(20 * tasks)]
    cycles = [tuple(order[at : at + tasks]) for at in range(0, len(order), tasks)]
    assert all(sorted(cycle) == list(range(tasks)) for cycle in cycles)
    assert order[0] == 0
    assert len(set(cycles)) > 1
    assert [turns.begin(step) for step in range(20 * tasks)] == order


def test_a_step_trains_the_encoder_and_the_head_whose_turn_it_is(lab: Lab, batch: Batch) -> None:
    model = applied(lab).train()
    hook = MTL.step_hook(model)
    trained = []
    for step in range(3):
        model.zero_grad(set_to_none=True)
        model(**batch).loss.backward()
        assert all(p.grad is not None for n, p in model.named_parameters() if not n.startswith("classifier."))
        trained.append([head.weight.grad is not None for head in heads_of(model).heads])
        hook(step)
    assert trained[0] == [True, False, False]
    assert sorted(trained) == [[False, False, True], [False, True, False], [True, False, False]]


def test_evaluation_is_the_first_head_that_of_the_plain_model(lab: Lab, batch: Batch) -> None:
    model, plain = applied(lab).eval(), lab.encoder()
    MTL.step_hook(model)(0)
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, plain(**batch).logits)
    assert torch.equal(MTL.remove(model)(**batch).logits, plain(**batch).logits)
    assert {name for name, _ in model.named_parameters()} == {name for name, _ in plain.named_parameters()}


def test_the_further_heads_are_random_from_the_seed_alone(lab: Lab) -> None:
    def weights(seed: int) -> list[torch.nn.Parameter]:
        return list(heads_of(applied(lab, seed=seed)).parameters())[::2]

    first, again, other = weights(0), weights(0), weights(1)
    assert all(map(torch.equal, first, again))
    assert not any(torch.equal(one, two) for one, two in itertools.combinations(first, 2))
    assert not torch.equal(first[1], other[1])


@pytest.mark.parametrize(("model_type", "choices"), [("bert", False), ("xlm-roberta", False), ("bert", True)])
def test_it_proves_itself(model_type: str, *, choices: bool, lab: Lab, batch: Batch) -> None:
    rows = {
        name: part[:, None].repeat(1, 2, 1) if part.dim() > 1 else part.clamp(max=1) for name, part in batch.items()
    }
    batches = (rows if choices else batch,)
    subject = Subject(
        method=MTL,
        application=Application(task=lab.task, overrides={"tasks": 8}),
        batches=batches,
        fresh_model=lambda: lab.encoder(model_type, choices=choices),
    )
    proof = check(subject)
    assert proof.steps == (12 if choices else 8), "a choice does not depend on the bias"
    trained = sum(p.numel() for p in subject.applied_model().parameters() if p.requires_grad)
    assert trained == sum(p.numel() for p in subject.applied_model().parameters())
    assert proof.checkpoint_bytes is not None
    assert proof.checkpoint_bytes > 4 * trained


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"tasks": 1}, r"^mtl\(tasks=1\): must be at least 2$"),
        ({"tasks": 9}, r"^mtl\(tasks=9\): must be at most 8$"),
        ({"task": 2}, r"^unknown override of mtl 'task': did you mean 'tasks'"),
    ],
)
def test_what_cannot_be_is_refused(overrides: dict[str, int], message: str, lab: Lab) -> None:
    with pytest.raises(UserError, match=message):
        MTL.apply(lab.encoder(), lab.application(overrides))


def test_it_cannot_be_merged_or_disabled(lab: Lab) -> None:
    model = applied(lab)
    with pytest.raises(UnsupportedError, match=r"^mtl cannot be merged: it trains the model's own weights$"):
        MTL.merge(model)
    with pytest.raises(UnsupportedError, match="mtl changes the weights themselves and cannot be disabled"):
        MTL.disabled(model)


def test_the_family_of_the_paper_has_it() -> None:
    assert MethodSpec("mtl") in select_methods(["paper"], Catalogue.load().methods)
