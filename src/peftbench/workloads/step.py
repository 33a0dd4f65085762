"""The workloads that are timed by default: one training step, and one inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from peftbench.workloads.base import Trial, Workload

if TYPE_CHECKING:
    from peftbench.tasks.base import Batch
    from peftbench.workloads.base import Mark, Subject


LABELS: Final = frozenset({"labels", "start_positions", "end_positions"})
"""Parts of a batch that only the loss needs."""


@dataclass(frozen=True, kw_only=True)
class TrainStep(Workload):
    """Forward with loss, backward, AdamW and cleared gradients, as a plain training loop does them."""

    def trial(self, subject: Subject) -> Trial:
        """Build the model in training mode and its optimizer over what the method trains."""
        model = subject.applied_model().train()
        method, batches = subject.method, subject.batches
        optimizer = subject.optimization.optimizer(model)
        after_step = method.step_hook(model)
        regularised = method.auxiliary_loss(model) is not None

        def run(number: int, mark: Mark) -> None:
            loss = model(**batches[number % len(batches)]).loss
            if regularised:
                loss = loss + method.auxiliary_loss(model)
            mark()
            loss.backward()
            mark()
            optimizer.step()
            if after_step is not None:
                after_step(number)
            optimizer.zero_grad(set_to_none=True)
            mark()

        return Trial(model=model, run=run, optimizer=optimizer)


@dataclass(frozen=True, kw_only=True)
class Inference(Workload):
    """Forward without labels in evaluation mode, the adapter active and not merged."""

    def trial(self, subject: Subject) -> Trial:
        """Build the model in evaluation mode; labels are left out of the batches."""
        import torch

        model = subject.applied_model().eval()
        inputs = [without_labels(batch) for batch in subject.batches]

        @torch.inference_mode()
        def run(number: int, mark: Mark) -> None:
            del mark
            model(**inputs[number % len(inputs)])

        return Trial(model=model, run=run)


def without_labels(batch: Batch) -> Batch:
    """Return what a deployed model is called with: the batch without its labels."""
    return {name: tensor for name, tensor in batch.items() if name not in LABELS}


WORKLOADS: tuple[Workload, ...] = (
    TrainStep(
        name="train_step",
        summary="forward with loss, backward, optimizer step",
        phases=("forward", "backward", "optimizer"),
        trains=True,
    ),
    Inference(name="inference", summary="forward in evaluation mode, adapter active"),
)
