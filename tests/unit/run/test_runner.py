"""What becomes of a case when the device fails it, with errors and an allocator that stand in for a GPU's."""

import os
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch

from peftbench.config.settings import Settings
from peftbench.devices.failures import PoisonedError
from peftbench.errors import UserError
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.time.rounds import TimedRound
from peftbench.measure.trial import Mark, Trial
from peftbench.records.ids import Case, MethodSpec
from peftbench.records.record import Record
from peftbench.run.references import ALONE, held_bytes
from peftbench.run.runner import Runner
from peftbench.workloads.backend import Backend
from peftbench.workloads.base import Workload
from peftbench.workloads.step import WORKLOADS, Inference, TrainStep
from peftbench.workloads.subject import Subject

CASE = Case(MethodSpec("head"), "nli", 1)
ASSERT = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"


@pytest.fixture
def runner() -> Runner:
    catalogue = Catalogue.load()
    settings = Settings(model="tiny", device="cpu", rounds=1, seq_len=8)
    return Runner(Backend.open(settings, catalogue, [catalogue.task("nli")]), session="s")


def unobserved(timed: TimedRound) -> TimedRound:
    return timed


def measure(runner: Runner, workload: Workload) -> Record:
    return runner.measure(CASE, workload, id="inference[head-nli-bs1]", observer=unobserved)


def raise_assert(*_: object) -> Any:  # noqa: ANN401 - never returns
    raise RuntimeError(ASSERT)


class Failing(Inference):
    def trial(self, subject: Subject) -> Trial:
        return replace(super().trial(subject), run=raise_assert)


INFERENCE = Inference(name="inference", summary="")


def test_cleaning_up_does_not_hide_that_the_context_is_lost(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poisoned context raises its error again at each call, the next `synchronize` first of all."""
    measure(runner, INFERENCE)
    monkeypatch.setattr("peftbench.run.runner.release", raise_assert)
    with pytest.raises(PoisonedError, match="CUDA context lost in first step"):
        measure(runner, Failing(name="inference", summary=""))
    runner.close()


def test_an_error_that_shows_when_the_case_has_ended_is_poison_too(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(runner, INFERENCE)
    monkeypatch.setattr("peftbench.run.runner.release", raise_assert)
    with pytest.raises(PoisonedError, match="CUDA context lost in clean-up"):
        measure(runner, INFERENCE)
    runner.close()


@pytest.mark.parametrize(
    ("part", "place"),
    [("forward", "first step (forward)"), ("backward", "first step (backward)"), ("step", "first step (optimizer)")],
)
def test_where_a_first_step_does_not_fit_is_told(runner: Runner, part: str, place: str) -> None:
    def no_room(*_: object, **__: object) -> Any:  # noqa: ANN401 - never returns
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ...")

    class Short(TrainStep):
        def trial(self, subject: Subject) -> Trial:
            trial = super().trial(subject)
            assert trial.optimizer is not None
            if part == "step":
                trial.optimizer.step = no_room  # type: ignore[method-assign]
            elif part == "forward":
                trial.model.register_forward_pre_hook(no_room)
            else:
                trial.model.register_forward_hook(lambda _, __, output: output.loss.register_hook(no_room) and None)
            return trial

    step = next(workload for workload in WORKLOADS if workload.name == "train_step")
    record = measure(runner, Short(name=step.name, summary="", phases=step.phases, trains=True))
    assert (record.status, record.reason) == ("out-of-memory", f"out of memory in {place}: asked for 2.5 GiB")


class Crowded(Inference):
    """Its case runs out of memory as long as a reference is there."""

    def trial(self, subject: Subject) -> Trial:
        trial = super().trial(subject)

        def run(number: int, mark: Mark) -> None:
            if any(reference() is not None for reference in REFERENCES):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ...")
            trial.run(number, mark)

        return replace(trial, run=run)

    def reference_trial(self, subject: Subject) -> Trial:
        trial = super().trial(subject)
        REFERENCES.append(weakref.ref(trial.model))
        return trial


REFERENCES: list[weakref.ref[torch.nn.Module]] = []


def test_a_case_that_fits_alone_only_is_timed_alone(runner: Runner) -> None:
    """The reference is small: it fits beside the idle case, and the case's own step is what does not fit then."""
    REFERENCES.clear()
    record = measure(runner, Crowded(name="inference", summary=""))
    assert len(REFERENCES) == 1
    assert record.status == "ok"
    assert ALONE in record.warnings
    assert "ratio" not in record.metrics


def test_a_large_reference_does_not_outlive_its_case(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next case is built and checked before its memory pass: it may need what the reference held."""
    monkeypatch.setattr(runner._probes, "room", lambda: 0.0)
    REFERENCES.clear()

    class Paired(Crowded):
        def trial(self, subject: Subject) -> Trial:
            return Inference.trial(self, subject)

    assert "ratio" in measure(runner, Paired(name="inference", summary="")).metrics
    assert [reference() for reference in REFERENCES] == [None]


def test_a_small_reference_serves_the_next_case_of_its_group(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    class Counting(Inference):
        def reference_trial(self, subject: Subject) -> Trial:
            built.append(1)
            return super().reference_trial(subject)

    workload = Counting(name="inference", summary="")
    for room, count in ((1e12, 1), (1e12, 1), (0.0, 1), (0.0, 2)):  # it is dropped when the third case ends
        monkeypatch.setattr(runner._probes, "room", lambda room=room: room)
        assert "ratio" in measure(runner, workload).metrics
        assert len(built) == count
    runner.close()


def test_a_case_that_does_not_fit_beside_what_only_saves_time_is_tried_again_without_it(runner: Runner) -> None:
    models: list[weakref.ref[torch.nn.Module]] = []

    class Kept(Inference):
        def reference_trial(self, subject: Subject) -> Trial:
            trial = super().reference_trial(subject)
            models.append(weakref.ref(trial.model))
            return trial

    class Large(Kept):
        """Does not fit as long as an earlier reference is there."""

        def trial(self, subject: Subject) -> Trial:
            if models[0]() is not None:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ...")
            return super().trial(subject)

    assert measure(runner, Kept(name="inference", summary="")).status == "ok"
    assert models[0]() is not None
    record = measure(runner, Large(name="other", summary=""))
    assert record.status == "ok"
    assert "ratio" in record.metrics
    runner.close()


def test_a_template_serves_all_groups_of_its_task(runner: Runner) -> None:
    seen: list[object] = []
    for size in (1, 2, 1):
        runner.measure(replace(CASE, batch_size=size), INFERENCE, id="case", observer=unobserved)
        seen.append(runner._held._group and runner._held._group.template)
    assert seen[0] is not None
    assert seen[0] is seen[1]
    assert seen[1] is seen[2]
    runner.close()


def test_a_case_that_leaves_memory_behind_is_named_once(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    mib = 2**20
    left = iter([0, 2 * mib, 5 * mib, 5 * mib])  # an old group is gone, the new one is built, one case and another
    for place in ("runner", "held"):
        monkeypatch.setattr(f"peftbench.run.{place}.release", lambda _: next(left))
    warning = "inference[head-nli-bs1] left 3.0 MiB allocated on the device"
    assert warning in measure(runner, INFERENCE).warnings
    assert warning not in measure(runner, INFERENCE).warnings
    monkeypatch.undo()


def test_a_reference_that_is_kept_is_no_leak(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an allocator that knows the reference's weights, as a GPU's would."""
    kept = runner._passes._references

    def allocated(_: object) -> int:
        return round(sum(held_bytes(trial) for _, trial in kept._trials.values()))

    for place in ("runner", "held"):
        monkeypatch.setattr(f"peftbench.run.{place}.release", allocated)
    monkeypatch.setattr("peftbench.run.references.COUNTED", frozenset({"cpu"}))
    monkeypatch.setattr("peftbench.measure.memory.device_memory.LEAK_BYTES", 1000)
    assert measure(runner, INFERENCE).warnings == ()
    assert allocated(None) > 1000
    assert measure(runner, INFERENCE).warnings == ()
    runner.close()


def test_what_an_error_held_is_gone_before_the_next_case_begins(runner: Runner) -> None:
    """While the error is on its way its frames hold the model: what is frozen then is never looked at again."""
    models: list[weakref.ref[torch.nn.Module]] = []

    class Broken(Inference):
        def trial(self, subject: Subject) -> Trial:
            trial = super().trial(subject)
            object.__setattr__(trial.model, "cycle", [trial.model])  # as wrapped models have them
            models.append(weakref.ref(trial.model))

            def run(number: int, mark: Mark) -> None:
                raise ValueError(number, mark)

            return replace(trial, run=run)

    class Next(Inference):
        def trial(self, subject: Subject) -> Trial:
            assert [model() for model in models] == [None]
            return super().trial(subject)

    with pytest.raises(ValueError, match="function"):
        measure(runner, Broken(name="inference", summary=""))
    assert measure(runner, Next(name="inference", summary="")).status == "ok"
    runner.close()


def test_a_reference_of_another_workload_with_the_same_name_is_closed_before_it_is_replaced(runner: Runner) -> None:
    closed: list[str] = []

    class Watched(Inference):
        def reference_trial(self, subject: Subject) -> Trial:
            return replace(super().reference_trial(subject), close=lambda: closed.append(self.summary))

    for summary in ("one", "two", "two"):
        measure(runner, Watched(name="inference", summary=summary))
    assert closed == ["one"]
    runner.close()
    assert closed == ["one", "two"]


def test_a_reference_that_a_case_may_have_changed_is_built_anew(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEFT_BEHIND", raising=False)
    built: list[str] = []

    class Watched(Inference):
        def reference_trial(self, subject: Subject) -> Trial:
            built.append(self.summary)
            return super().reference_trial(subject)

    class Dirty(Watched):
        def trial(self, subject: Subject) -> Trial:
            os.environ["LEFT_BEHIND"] = "1"
            return super().trial(subject)

    clean, dirty = Watched(name="inference", summary="clean"), Dirty(name="other", summary="dirty")
    for workload in (clean, clean, dirty, clean):
        record = measure(runner, workload)
        assert bool(record.warnings) == (workload is dirty)
    assert built == ["clean", "dirty", "clean"]
    runner.close()


def test_a_group_that_follows_a_released_one_releases_nothing_again(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second look through all objects of torch and transformers would take 0.2 s a group."""
    calls: list[object] = []

    def release(device: object) -> int:
        calls.append(device)
        return 0

    monkeypatch.setattr("peftbench.run.runner.release", release)
    counts = []
    for size in (1, 2):
        runner.measure(replace(CASE, batch_size=size), INFERENCE, id="case", observer=unobserved)
        counts.append(len(calls))
        runner.release()
        counts.append(len(calls))
        runner.release()
    runner.measure(CASE, INFERENCE, id="case", observer=unobserved)
    runner.measure(replace(CASE, batch_size=2), INFERENCE, id="case", observer=unobserved)
    runner.close()
    assert counts == [2, 3, 5, 6]  # at the first case, after each, and at the end of each group
    assert len(calls) == 7 + 1 + 2 + 1  # a group that was not released is released when the next one begins


def test_data_of_one_study_that_cannot_be_used_are_a_row_and_the_next_case_runs(runner: Runner) -> None:
    class Refusing(Inference):
        def trial(self, subject: Subject) -> Trial:
            raise UserError(f"train.jsonl, line 7: nothing for {subject.method.name} to learn")

    refused = measure(runner, Refusing(name="inference", summary="", keeps_data=True))
    assert (refused.status, refused.reason) == ("failed", "train.jsonl, line 7: nothing for head to learn")
    assert measure(runner, INFERENCE).status == "ok"
    runner.close()
