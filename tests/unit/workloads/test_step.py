"""What a round of training or inference does under settings that change how, not what, it computes."""

from itertools import chain

import pytest
import torch
from tests.unit.workloads.conftest import MakeSubject

from peftbench.devices.precision import Precision
from peftbench.errors import UnsupportedError
from peftbench.measure.counters.counting import count
from peftbench.measure.counters.storages import saved_bytes
from peftbench.measure.trial import Trial
from peftbench.models import building
from peftbench.validity.check import check
from peftbench.validity.outputs import difference, evaluate
from peftbench.workloads.step import WORKLOADS, without_labels
from peftbench.workloads.subject import Subject

BY_NAME = {workload.name: workload for workload in WORKLOADS}


@pytest.mark.parametrize(
    "name", ["full", "bitfit", "pfeiffer", "prefix", "adapterfusion", "adapterdrop", "lora", "ia3"]
)
def test_checkpointing_saves_less_and_computes_the_same(name: str, subject_of: MakeSubject) -> None:
    saved, gradients = [], []
    for checkpointing in (False, True):
        subject = subject_of(name, gradient_checkpointing=checkpointing)
        model = subject.applied_model().train()

        def backward(model: torch.nn.Module = model, subject: Subject = subject) -> None:
            torch.manual_seed(0)
            model(**subject.batches[0]).loss.backward()

        with torch.autograd.set_multithreading_enabled(False):  # the hooks that count are of this thread
            saved.append(saved_bytes(backward, kept=chain(model.parameters(), model.buffers())))
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    plain, checkpointed = gradients
    assert saved[1] < saved[0] / 2
    assert checkpointed.keys() == plain.keys() != set()
    for parameter_name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[parameter_name], gradient)


def test_a_method_that_cannot_be_checkpointed_says_so(subject_of: MakeSubject) -> None:
    with pytest.raises(UnsupportedError, match=r"prefix-peft: .* does not work with gradient checkpointing"):
        subject_of("prefix-peft", gradient_checkpointing=True).applied_model()


def test_a_model_that_cannot_be_checkpointed_says_so(subject_of: MakeSubject) -> None:
    model = subject_of("head").fresh_model()
    model.supports_gradient_checkpointing = False
    with pytest.raises(UnsupportedError, match=r"^transformers has no gradient checkpointing for model type 'bert'$"):
        building.checkpoint_layers(model)


def test_merged_inference_runs_the_plain_architecture_and_computes_the_same(subject_of: MakeSubject) -> None:
    subject = subject_of("lora")
    merged = BY_NAME["merged_inference"].trial(subject).model
    plain, adapted = subject.fresh_model(), subject.applied_model()
    assert [type(module) for module in merged.modules()] == [type(module) for module in plain.modules()]
    inputs = without_labels(subject.batches[0])
    assert difference(evaluate(merged, inputs), evaluate(adapted, inputs)) < 1e-5


def test_gradients_run_through_the_frozen_backbone_of_the_reference(subject_of: MakeSubject) -> None:
    workload, head = BY_NAME["train_step"], subject_of("head")

    def saved(trial: Trial) -> int:
        with torch.autograd.set_multithreading_enabled(False):  # the hooks that count are of this thread
            return saved_bytes(
                lambda: trial.run(0, lambda: None), kept=chain(trial.model.parameters(), trial.model.buffers())
            )

    reference = workload.reference_trial(head)
    before = {name: parameter.detach().clone() for name, parameter in reference.model.named_parameters()}
    assert saved(reference) > 3 * saved(workload.trial(head))
    moved = {name for name, p in reference.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in reference.model.named_parameters() if p.requires_grad}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_a_reference_that_trains_its_backbone_is_the_case_itself(subject_of: MakeSubject) -> None:
    def counted(trial: Trial) -> dict[str, int]:
        return dict(count(lambda: trial.run(0, lambda: None), trial.model, heads=frozenset()).operators.operators)

    workload, full = BY_NAME["train_step"], subject_of("full")
    assert counted(workload.reference_trial(full)) == counted(workload.trial(full))


def test_the_reference_of_merged_inference_is_not_merged(subject_of: MakeSubject) -> None:
    head = subject_of("head")
    workload = BY_NAME["merged_inference"]
    with pytest.raises(UnsupportedError, match=r"^head cannot be merged: "):
        workload.trial(head)
    workload.reference_trial(head).run(0, lambda: None)


def test_what_cannot_be_merged_is_known_beforehand_with_the_reason(subject_of: MakeSubject) -> None:
    reason = BY_NAME["merged_inference"].unsupported(subject_of("pfeiffer").method, Precision())
    assert reason.startswith("pfeiffer cannot be merged: the activation inside a bottleneck")


@pytest.mark.parametrize("name", ["full", "lora", "ia3"])
def test_a_language_model_is_proven_and_its_projection_trained_by_full_fine_tuning_alone(
    name: str, subject_of: MakeSubject
) -> None:
    subject = subject_of(name, "sft", model="tiny-llama")
    facts = check(subject).facts
    assert any(fact.startswith("saved") for fact in facts)
    assert any("frozen tensors stayed as they were" in fact for fact in facts)
    projection = subject.applied_model().get_output_embeddings()  # type: ignore[operator] # of transformers, not typed
    assert projection.weight.requires_grad == (name == "full")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_step_of_a_language_model_runs_both_ways_and_trains_nothing(
    dtype: str, subject_of: MakeSubject
) -> None:
    subject = subject_of("head", "sft", model="tiny-llama", dtype=dtype)
    reference = BY_NAME["train_step"].reference_trial(subject)
    before = {name: parameter.detach().clone() for name, parameter in reference.model.named_parameters()}
    phases: list[bool] = []
    kept = chain(reference.model.parameters(), reference.model.buffers())
    with torch.autograd.set_multithreading_enabled(False):  # the hooks that count are of this thread
        assert saved_bytes(lambda: reference.run(0, lambda: phases.append(True)), kept=kept) > 0
    assert len(phases) == 3
    assert all(torch.equal(p, before[name]) for name, p in reference.model.named_parameters())


def test_a_training_step_of_a_language_model_keeps_no_cache(subject_of: MakeSubject) -> None:
    subject = subject_of("full", "sft", model="tiny-llama")
    assert subject.applied_model()(**subject.batches[0]).past_key_values is None
