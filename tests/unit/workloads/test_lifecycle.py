"""Each stage of an adapter's life does what its name says, and does it again in the next round."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tests.unit.workloads.conftest import MakeSubject

from peftbench.devices.precision import Precision
from peftbench.errors import UnsupportedError
from peftbench.measure.counters import counting as counters
from peftbench.measure.trial import Trial
from peftbench.methods.base import Application
from peftbench.methods.basic import METHODS, SelectiveMethod
from peftbench.validity.outputs import difference, evaluate, is_equal
from peftbench.workloads.base import Workload
from peftbench.workloads.lifecycle import WORKLOADS, left_bytes
from peftbench.workloads.subject import Subject

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BY_NAME = {workload.name: workload for workload in WORKLOADS}


def take(trial: Trial, number: int = 0) -> None:
    """Take one round as the runner does."""
    if trial.prepare is not None:
        trial.prepare(number)
    trial.run(number, lambda: None)


def disturb(parameters: Iterable[torch.nn.Parameter]) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=0.2)


@dataclass
class Story:
    """What happened to a `Told` method."""

    applied_to: list[weakref.ref[torch.nn.Module]] = field(default_factory=list)
    saved_into: list[Path] = field(default_factory=list)
    found_there: list[list[Path]] = field(default_factory=list)
    loaded: list[torch.nn.Module] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Told(SelectiveMethod):
    """Trains the head, and writes its own story."""

    story: Story

    def apply(self, model: PreTrainedModel, application: Application) -> torch.nn.Module:
        self.story.applied_to.append(weakref.ref(model))
        return super().apply(model, application)

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        self.story.saved_into.append(folder)
        self.story.found_there.append([*folder.iterdir()])
        super().save(model, folder)

    def load(self, model: PreTrainedModel, application: Application, folder: Path) -> torch.nn.Module:
        self.story.loaded.append(super().load(model, application, folder))
        return self.story.loaded[-1]


@pytest.fixture
def told(subject_of: MakeSubject) -> tuple[Subject, Story]:
    story = Story()
    method = Told(name="told", family="", summary="", source="", story=story)
    return replace(subject_of("head"), method=method), story


def test_attach_applies_the_method_to_a_new_model_each_round_and_keeps_none(told: tuple[Subject, Story]) -> None:
    subject, story = told
    trial = BY_NAME["attach"].trial(subject)
    for number in range(3):
        take(trial, number)
    own, *models = [reference() for reference in story.applied_to]
    assert own is trial.model
    assert models[:2] == [None, None]
    assert models[2] is not None


@pytest.mark.parametrize("name", ["attach", "load"])
def test_a_round_finds_no_other_model_on_the_device(
    name: str, subject_of: MakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial's own model is kept on the host (there is no device here, so the way there is what is seen)."""
    moved: list[torch.nn.Module] = []

    def cpu(model: torch.nn.Module) -> torch.nn.Module:
        moved.append(model)
        return model

    monkeypatch.setattr(torch.nn.Module, "cpu", cpu)
    trial = BY_NAME[name].trial(subject_of("head"))
    take(trial)
    assert len(moved) == 1
    assert moved[0] is trial.model
    trial.close()


def test_save_writes_into_an_empty_folder_each_round_and_leaves_nothing(told: tuple[Subject, Story]) -> None:
    subject, story = told
    trial = BY_NAME["save"].trial(subject)
    for number in range(2):
        take(trial, number)
    first, second = story.saved_into
    assert first == second
    assert story.found_there == [[], []]
    assert [path.name for path in second.iterdir()] == ["model.safetensors"]
    trial.close()
    assert not second.parent.exists()


def test_load_gives_the_saved_model_back_each_round(told: tuple[Subject, Story]) -> None:
    subject, story = told
    trial = BY_NAME["load"].trial(subject)
    saved = evaluate(trial.model, subject.batches[0])
    for number in range(2):
        take(trial, number)
    assert len(story.loaded) == 2
    assert all(is_equal(evaluate(loaded, subject.batches[0]), saved) for loaded in story.loaded)
    trial.close()
    assert not story.saved_into[0].exists()


def test_what_cannot_be_saved_leaves_no_folder(
    told: tuple[Subject, Story], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedError("cannot be saved")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Told, "save", refuse)
    with pytest.raises(UnsupportedError):
        BY_NAME["load"].trial(told[0])
    assert list(tmp_path.iterdir()) == []


def test_switch_goes_from_one_adapter_to_the_other_and_back(subject_of: MakeSubject) -> None:
    subject = subject_of("lora")
    batch = subject.batches[0]
    trial = BY_NAME["switch"].trial(subject)
    first = evaluate(trial.model, batch)
    disturb(parameter for name, parameter in trial.model.named_parameters() if "second" in name)
    take(trial, 0)
    second = evaluate(trial.model, batch)
    assert not is_equal(first, second)
    take(trial, 0)
    assert is_equal(evaluate(trial.model, batch), second)
    take(trial, 1)
    assert is_equal(evaluate(trial.model, batch), first)


def test_merge_and_unmerge_change_the_weights_and_not_the_output(subject_of: MakeSubject) -> None:
    subject = subject_of("lora")
    batch = subject.batches[0]
    for name in ("merge", "unmerge"):
        trial = BY_NAME[name].trial(subject)
        disturb(parameter for name, parameter in trial.model.named_parameters() if "lora_" in name)
        weight = next(p for name, p in trial.model.named_parameters() if name.endswith("query.base_layer.weight"))
        plain, before = weight.clone(), evaluate(trial.model, batch)
        for number in range(2):
            take(trial, number)
            is_merged = not torch.allclose(weight, plain, atol=1e-5)
            assert is_merged == (name == "merge")
            assert difference(before, evaluate(trial.model, batch)) < 1e-5


@pytest.mark.parametrize("workload", [BY_NAME["merge"], BY_NAME["unmerge"]], ids=lambda workload: workload.name)
def test_what_cannot_be_merged_is_known_beforehand(workload: Workload, subject_of: MakeSubject) -> None:
    reason = workload.unsupported(METHODS[0], Precision())
    assert reason == "full cannot be merged: it trains the model's own weights"
    assert workload.unsupported(subject_of("lora").method, Precision()) == ""


def test_a_method_that_holds_no_second_adapter_cannot_be_switched(subject_of: MakeSubject) -> None:
    with pytest.raises(UnsupportedError, match=r"^pfeiffer cannot hold two adapters in one model$"):
        BY_NAME["switch"].trial(subject_of("pfeiffer"))


@pytest.mark.parametrize("name", [workload.name for workload in WORKLOADS if workload.counted])
def test_counters_of_a_stage_are_equal_in_another_trial(name: str, subject_of: MakeSubject) -> None:
    def count() -> counters.Counters:
        trial = BY_NAME[name].trial(subject_of("lora"))
        assert trial.prepare is not None
        prepare = trial.prepare
        take(trial)
        return counters.count(
            lambda: trial.run(0, lambda: None), trial.model, heads=frozenset({"classifier"}), reset=lambda: prepare(0)
        )

    first, second = count(), count()
    assert first.metrics() == second.metrics()
    assert first.operators.operator_hash == second.operators.operator_hash


REMOVABLE = ("full", "pfeiffer", "houlsby", "prefix", "adapterdrop", "adapterfusion", "lora", "ia3", "p-tuning")


@pytest.mark.parametrize("name", REMOVABLE)
def test_removing_a_method_leaves_the_plain_model_and_nothing_of_its_own(name: str, subject_of: MakeSubject) -> None:
    subject = subject_of(name)
    model = subject.fresh_model()
    batch = subject.batches[0]
    plain = evaluate(model, batch)
    known = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    applied = subject.method.apply(model, subject.application)
    brought = [
        parameter
        for parameter_name, parameter in applied.named_parameters()
        if id(parameter) not in known and "modules_to_save" not in parameter_name
    ]
    disturb(brought)
    references = [weakref.ref(parameter) for parameter in brought]
    removed = subject.method.remove(applied)
    del applied, brought
    gc.collect()
    assert [reference() for reference in references if reference() is not None] == []
    assert is_equal(evaluate(removed, batch), plain)
    assert type(removed) is type(model)


def test_what_is_left_behind_is_told_on_cuda_only(subject_of: MakeSubject) -> None:
    metric = left_bytes(subject_of("lora"))
    assert metric.value is None
    assert metric.reason == "PyTorch does not report allocated bytes of cpu"
