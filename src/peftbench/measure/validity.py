"""The validity pass: a method proves that it trains, merges and saves what it claims to, before it is timed.

A number for a method that silently trains the wrong weights is worse than none. A method claims to train what it
leaves requiring a gradient; the pass takes a few real optimizer steps on the case's own batches and looks at what
came of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import torch

from peftbench.errors import UnsupportedError, ValidityError
from peftbench.measure.outputs import Outputs, difference, evaluate, is_equal, tolerance
from peftbench.measure.trained import (
    Origin,
    Training,
    check_changes,
    claimed,
    idle_parameters,
    named_tensors,
    snapshot,
    take_steps,
)
from peftbench.record import Metric

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.tasks.base import Batch
    from peftbench.workloads.base import Subject

_ROWS: Final = 4
"""Rows of a batch that are used: what is proven does not depend on their number, what it costs does."""


@dataclass(frozen=True, slots=True)
class Validity:
    """What a method has proven."""

    steps: int
    """Optimizer steps that it took."""
    duration_s: float
    tolerance: float
    """Largest difference of outputs, as a part of the largest output, that was taken as rounding."""
    checkpoint_bytes: int | None
    """Size of the files that `save` wrote; None if the method cannot save."""
    facts: tuple[str, ...]
    """What was checked and held, a line each."""
    notes: tuple[str, ...]
    """What could not be checked, or held only nearly, a line each."""

    def metrics(self) -> Mapping[str, Metric]:
        """Return the size of the checkpoint and the cost of the pass, as metrics of a record."""
        reason = "" if self.checkpoint_bytes is not None else "the method cannot save"
        return {
            "checkpoint_bytes": Metric(value=self.checkpoint_bytes, unit="B", reason=reason),
            "validity_s": Metric(value=self.duration_s, unit="s", noise="sampled"),
        }


def check(subject: Subject) -> Validity:
    """Put a method to the proof on a fresh model, with the first rows of the case's batches.

    The loss and all gradients are finite; the head and everything else that requires a gradient receives a non-zero
    one and changes; every other parameter and buffer stays as it was, bit by bit; two evaluations are equal; a saved
    and reloaded model, and a merged one, compute the same. Random generators are put back afterwards.

    Raises:
        ValidityError: one of these does not hold; says which, in one line.
        UnsupportedError: the method cannot be applied to this model.
    """
    start = time.perf_counter()
    batches = [{name: tensor[:_ROWS] for name, tensor in batch.items()} for batch in subject.batches]
    spare = cache(subject.fresh_model)  # made when first asked for: after training, when its memory is free again
    found = _Findings()
    with torch.random.fork_rng(_cuda_devices(batches)):
        torch.manual_seed(subject.application.seed)
        fresh = subject.fresh_model()
        origin = Origin.of(fresh)
        model = subject.method.apply(fresh, subject.application)
        training = _train(subject, model, origin, batches, spare, found)
        outputs = evaluate(model, batches[0])
        if not is_equal(outputs, evaluate(model, batches[0])):
            raise ValidityError("two evaluations of the same batch differ")
        found.facts.append("two evaluations of the same batch are equal")
        checkpoint_bytes = _reload(subject, model, outputs, batches[0], spare(), found)
        _merge(subject, model, outputs, batches[0], origin, found)
    return Validity(
        steps=training.steps,
        duration_s=time.perf_counter() - start,
        tolerance=tolerance(outputs),
        checkpoint_bytes=checkpoint_bytes,
        facts=tuple(found.facts),
        notes=tuple(found.notes),
    )


@dataclass(frozen=True, slots=True)
class _Findings:
    facts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _train(
    subject: Subject,
    model: torch.nn.Module,
    origin: Origin,
    batches: Sequence[Batch],
    spare: Callable[[], PreTrainedModel],
    found: _Findings,
) -> Training:
    trained = claimed(model, origin, trains_backbone=subject.method.trains_backbone)
    before = snapshot(named_tensors(model))
    training = take_steps(subject, model, trained, batches)

    def idle() -> frozenset[str]:
        names = idle_parameters(spare(), batches)
        return frozenset(name for name, tensor in trained.items() if origin.names.get(id(tensor)) in names)

    still = check_changes(before, named_tensors(model), trained, training, idle)
    steps = f"in {training.steps} steps"
    found.facts.append(f"loss and gradients are finite {steps}")
    found.facts.append(f"{len(trained) - len(still)} trained tensors received gradients and changed {steps}")
    found.facts.append(f"{len(before) - len(trained)} frozen tensors stayed as they were, bit by bit")
    found.notes.extend(f"{name} stood still: the plain model's loss does not depend on it" for name in still)
    return training


def _reload(
    subject: Subject, model: torch.nn.Module, outputs: Outputs, batch: Batch, plain: PreTrainedModel, found: _Findings
) -> int | None:
    with TemporaryDirectory(prefix="peftbench-") as name:
        folder = Path(name)
        try:
            subject.method.save(model, folder)
            written_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            reloaded = subject.method.load(plain, subject.application, folder)
        except UnsupportedError as error:
            found.notes.append(f"saving and reloading not available: {error}")
            return None
        again = evaluate(reloaded, batch)
    if is_equal(outputs, again):
        found.facts.append(f"saved ({written_bytes} bytes) and reloaded, the output is equal")
    else:
        found.facts.append(f"saved ({written_bytes} bytes) and reloaded, {_within('reloaded', outputs, again)}")
    return written_bytes


def _merge(
    subject: Subject, model: torch.nn.Module, outputs: Outputs, batch: Batch, origin: Origin, found: _Findings
) -> None:
    if not subject.method.mergeable:
        found.notes.append("cannot be merged")
        return
    try:
        merged = subject.method.merge(model)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (a fault of the library that merges: told, not papered over)
        found.notes.append(f"merge not available: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
        return
    found.facts.append(f"merged, {_within('merged', outputs, evaluate(merged, batch))}")
    if extra := sum(p.numel() for p in merged.parameters()) - origin.parameters:
        raise ValidityError(f"the merged model has {extra} parameters more than the plain one")


def _within(kind: str, outputs: Outputs, others: Outputs) -> str:
    apart, allowed = difference(outputs, others), tolerance(outputs)
    if apart > allowed:
        raise ValidityError(f"the {kind} model's output differs by {apart:.1e} of its scale; {allowed:.0e} is allowed")
    return f"the output differs by {apart:.1e} of its scale ({allowed:.0e} is allowed)"


def _cuda_devices(batches: Sequence[Batch]) -> list[int]:
    return sorted({tensor.device.index for batch in batches for tensor in batch.values() if tensor.is_cuda})
