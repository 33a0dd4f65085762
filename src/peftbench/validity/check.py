"""The validity pass: a method proves that it trains, merges and saves what it promises, before it is timed.

A number for a method that silently trains the wrong weights is worse than none. A method promises to train every
parameter that it leaves requiring a gradient. The pass takes a few real optimizer steps on the case's own batches, and
checks which tensors received gradients and changed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, Self

import torch

from peftbench.devices.failures import classify
from peftbench.devices.seeding import seed_generators
from peftbench.errors import PeftbenchError, UnsupportedError, ValidityError
from peftbench.measure.counters.checkpoint_size import CheckpointSize, checkpoint_size
from peftbench.methods.base import is_head, place_of_plain
from peftbench.records.record import Metric
from peftbench.records.scratch import scratch_folder
from peftbench.validity.outputs import Outputs, difference, evaluate, is_equal, tolerance
from peftbench.validity.promises import Origin, Promises, promises_of, some
from peftbench.validity.short_training import idle_parameters, perturb, require_idle, snapshot, standing_still, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.tasks.base import Batch
    from peftbench.workloads.subject import Subject

ROWS: Final = 4
"""Number of rows of each batch that are used. The proof does not depend on it; its cost does."""

SIGNAL: Final = 0.3
"""Scale of the noise that is added to a method's own tensors before outputs are compared: its standard deviation is
this number divided by the root of the model's width. After a few steps an adapter changes outputs so little that its
loss in merging or saving would go unnoticed. Much more noise would amplify rounding errors in a deep model."""

_REQUANTISED: Final = 2.0
"""Merging into a quantised backbone quantises the merged weights anew. It may move the outputs by this many times what
quantising the plain weights moved them: the merged weights are larger, and the errors of both add up."""


@dataclass(frozen=True, slots=True)
class Validity:
    """The result of a proof that succeeded."""

    steps: int
    """Number of optimizer steps."""
    duration_s: float
    tolerance: float
    """Largest difference of outputs, relative to the largest output, that counts as rounding."""
    checkpoint: CheckpointSize | None
    """Size of the files that `save` wrote; None if the method cannot save."""
    facts: tuple[str, ...]
    """Statements that were checked and hold, a line each."""
    notes: tuple[str, ...]
    """Statements that could not be checked, or hold with an exception, a line each."""

    def metrics(self) -> Mapping[str, Metric]:
        """Return the size of the checkpoint and the duration of the pass, as metrics of a record."""
        missing = {"checkpoint_bytes": Metric(None, "B", reason="the method cannot save")}
        return {
            **(self.checkpoint.metrics() if self.checkpoint else missing),
            "validity_s": Metric(value=self.duration_s, unit="s", noise="sampled"),
        }


def check(subject: Subject) -> Validity:
    """Check a method on a fresh model, with the first rows of the case's batches.

    It must hold that:

    * the loss and all gradients are finite;
    * the head and every other parameter that requires a gradient receives a non-zero one, and changes;
    * every other parameter and buffer stays as it was, bit by bit;
    * two evaluations are equal;
    * a saved and reloaded model, and a merged one, compute the same.

    Torch's random generators are put back afterwards.

    Raises:
        ValidityError: one of these does not hold; says which, in one line.
        UnsupportedError: the method cannot be applied to this model.
    """
    start = time.perf_counter()
    with torch.random.fork_rng(cuda_devices(subject.batches)):
        seed_generators(subject.application.seed)
        proof = _Proof.begin(subject)
        with subject.method.faults(proof.model, subject.application, "train"):
            steps = proof.train()
        with subject.method.faults(proof.model, subject.application, "run"):
            outputs = proof.evaluate_twice()
        checkpoint = proof.reload(outputs)
        proof.merge(outputs)
    return Validity(
        steps=steps,
        duration_s=time.perf_counter() - start,
        tolerance=tolerance(outputs),
        checkpoint=checkpoint,
        facts=tuple(proof.facts),
        notes=tuple(proof.notes),
    )


@dataclass(frozen=True, slots=True)
class _Proof:
    """The steps of the proof. They must be taken in the order of `check`. The last one, `merge`, spoils the model."""

    subject: Subject
    batches: Sequence[Batch]
    origin: Origin
    model: torch.nn.Module
    spare: Callable[[], PreTrainedModel]
    """Returns one further fresh model. It is made at the first call: after training, when memory is free again."""
    rounding: float = 0.0
    """How far quantising the backbone moved the outputs, relative to their scale; 0 if nothing is merged into it."""
    facts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, subject: Subject) -> Self:
        fresh = _awake(subject.fresh_model())
        batches = [{name: tensor[:ROWS] for name, tensor in batch.items()} for batch in subject.batches]
        origin = Origin.of(fresh)
        notes = [*subject.method.remarks(fresh, subject.application)]
        method, application = subject.method, subject.application
        plain = _evaluated(subject, fresh, batches[0]) if method.mergeable and method.quantised(application) else None
        model = method.apply(fresh, application)
        rounding = 0.0
        if plain is not None:
            with method.faults(model, application, "run"):
                rounding = difference(plain, _evaluated(subject, model, batches[0]))
        return cls(
            subject=subject,
            batches=batches,
            origin=origin,
            notes=notes,
            model=model,
            spare=cache(lambda: _awake(subject.fresh_model())),
            rounding=rounding,
        )

    def train(self) -> int:
        promises = promises_of(self.model, self.origin, trains_backbone=self.subject.method.trains_backbone)
        untrainable = self.subject.method.untrainable or self.subject.precision.untrainable
        if untrainable:
            self.notes.append(f"training not checked: {untrainable}")
        steps = 0 if untrainable else self.take_steps(promises)
        perturb(promises.own.values(), SIGNAL / math.sqrt(self.origin.width), zeros=False)
        return steps

    def take_steps(self, promises: Promises) -> int:
        before = snapshot(promises)
        training = train(self.subject, self.model, promises.trained, self.batches)
        still = standing_still(before, self.model, promises, training)
        if still:
            require_idle(still, promises, training, self.origin, idle_parameters(self.spare(), self.batches))
        steps = f"in {training.steps} steps"
        self.facts.append(f"loss and gradients are finite {steps}")
        self.facts.append(
            f"{len(promises.trained) - len(still)} trained tensors received gradients and changed {steps}"
        )
        self.facts.append(f"{len(promises.frozen)} frozen tensors stayed as they were, bit by bit")
        faint = "its gradient is too small for AdamW to move it"
        idle = "the plain model's loss does not depend on it"
        self.notes.extend(f"{name} did not change: {faint if name in training.faint else idle}" for name in still)
        return training.steps

    def evaluate(self, model: torch.nn.Module) -> Outputs:
        return _evaluated(self.subject, model, self.batches[0])

    def evaluate_twice(self) -> Outputs:
        outputs, again = self.evaluate(self.model), self.evaluate(self.model)
        if is_equal(outputs, again):
            self.facts.append("two evaluations of the same batch are equal")
        elif self.subject.method.projects and difference(outputs, again) <= tolerance(outputs):
            self.facts.append(f"two evaluations are equal within rounding: {self.subject.method.projects}")
        else:
            raise ValidityError("two evaluations of the same batch differ")
        return outputs

    def reload(self, outputs: Outputs) -> CheckpointSize | None:
        method, application = self.subject.method, self.subject.application
        with scratch_folder() as folder:
            try:
                method.save(self.model, folder)
                written = checkpoint_size(folder)
                reloaded = method.load(self.spare(), application, folder)
            except UnsupportedError as error:
                self.notes.append(f"saving and reloading not available: {error}")
                return None
            except Exception as error:
                raise ValidityError(_described(error, "saving and reloading")) from error
            again = self.evaluate(reloaded)
        self.facts.append(f"saved ({written.total_bytes} bytes), {_compared('reloaded', outputs, again)}")
        return written

    def merge(self, outputs: Outputs) -> None:
        if not self.subject.method.mergeable:
            self.facts.append("does not claim to be mergeable")
            return
        without = self.without_method() if self.rounding else None
        try:
            merged = self.subject.method.merge(self.model)
        except Exception as error:  # noqa: BLE001 (a fault of the library that merges is reported as a note)
            self.notes.append(f"merge not available: {_described(error, 'merging')}")
            return
        place = place_of_plain(merged)
        names = [name.removeprefix(place) for name, _ in merged.named_parameters()]
        left = [name for name in names if name not in self.origin.tensors]
        if body := [name for name in left if not is_head(name, self.origin.heads)]:
            raise ValidityError(f"the merged model still has parameters of the method: {some(body)}")
        if left:
            self.notes.append(f"the merged model's head is still wrapped: {some(left)}")
        others = self.evaluate(merged)
        if without is not None and difference(outputs, others) >= difference(without, others):
            raise ValidityError("the merged model's output is as near to that without the method as to that with it")
        self.facts.append(_compared("merged", outputs, others, _REQUANTISED * self.rounding))

    def without_method(self) -> Outputs | None:
        try:
            with self.subject.method.disabled(self.model):
                return self.evaluate(self.model)
        except UnsupportedError:
            return None


def _awake(model: PreTrainedModel) -> PreTrainedModel:
    """Replace a fresh model's zero vectors by small values, the same each time.

    A trained model has no such vectors. Random weights come with biases of zero, and a method that scales a bias would
    then receive no gradient.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1 and not parameter.any():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def _evaluated(subject: Subject, model: torch.nn.Module, batch: Batch) -> Outputs:
    with subject.precision.forward_context(next(model.parameters()).device):
        return evaluate(model, batch)


def _compared(kind: str, outputs: Outputs, others: Outputs, least: float = 0.0) -> str:
    """Return the fact that two outputs are equal, within the tolerance of their dtype or `least`."""
    if is_equal(outputs, others):
        return f"{kind}: the output is equal, bit by bit"
    apart, allowed = difference(outputs, others), max(tolerance(outputs), least)
    if apart > allowed:
        raise ValidityError(f"the {kind} model's output differs by {apart:.1e} of its scale, {allowed:.0e} is allowed")
    return f"{kind}: the output differs by {apart:.1e} of its scale, {allowed:.0e} is allowed"


def _described(error: Exception, phase: str) -> str:
    """Return why a method failed, in one line. A failure of the machine (memory, disk, device) is raised again."""
    failure = classify(error, phase)
    if failure.kind != "failed":
        raise error
    return str(error) if isinstance(error, PeftbenchError) else failure.reason


def cuda_devices(batches: Sequence[Batch]) -> list[int]:
    """Return the indices of the GPUs that hold batches."""
    return sorted({tensor.device.index for batch in batches for tensor in batch.values() if tensor.is_cuda})
