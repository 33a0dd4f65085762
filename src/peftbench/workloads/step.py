"""The workloads that run the model: one training step, and one inference, with the adapter active or merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from peftbench.devices.seeding import seeded
from peftbench.errors import UnsupportedError
from peftbench.measure.trial import Trial, nothing
from peftbench.workloads.base import Workload
from peftbench.workloads.replay import executed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from peftbench.devices.precision import Precision
    from peftbench.measure.trial import Mark
    from peftbench.methods.base import Method
    from peftbench.tasks.base import Batch
    from peftbench.workloads.subject import Subject


LABELS: Final = frozenset({"labels", "start_positions", "end_positions"})
"""Names of the tensors of a batch that only the loss needs."""
CUDA_TASKS: Final = ("nli", "ner")
"""Tasks of the default matrix on CUDA, which ends within ten minutes: a label a text, and a label a token."""
CUDA_BATCH_SIZES: Final = (8, 32)
"""Batch sizes of the default matrix on CUDA, in which people train."""
MOST_STEPS: Final = 10_000
"""Number of steps among which a full step is looked for."""


@dataclass(frozen=True, kw_only=True)
class TrainStep(Workload):
    """One step of a plain training loop: forward with loss, backward, optimizer, gradients cleared."""

    def unsupported(self, method: Method, precision: Precision) -> str:
        """Return the reason why the method cannot be trained, or no model at this precision, or ''."""
        return method.untrainable or precision.untrainable

    def trial(self, subject: Subject) -> Trial:
        """Build the model in training mode, and an optimizer of the parameters that the method trains."""
        model = subject.applied_model().train()
        optimizer = subject.optimizer(model)
        step = training_step(subject, model, optimizer)
        batches = subject.batches

        def run(number: int, mark: Mark) -> None:
            step(batches[number % len(batches)], number, mark)

        chained = subject.method.step_hook(model) is not None
        trial = Trial(
            model=model,
            run=run,
            optimizer=optimizer,
            representative=_representative_round(subject, model),
            chained=chained,
        )
        device = next(model.parameters()).device
        return executed(trial, subject.execution, lambda batch: step(batch, 0, nothing), batches, device)

    def reference_trial(self, subject: Subject) -> Trial:
        """Build the step of the reference. Gradients run through its backbone, frozen or not, as every adapter needs.

        Without them the base step would have almost no backward pass. A disturbance that slows forward and backward
        passes differently (a neighbour on the same core) would then look like a change of the case.
        """

        def fresh_model() -> PreTrainedModel:
            model = subject.fresh_model()
            _let_gradients_through(model, subject.batches[0])
            return model

        return self.trial(replace(subject, fresh_model=fresh_model))


@dataclass(frozen=True, kw_only=True)
class Inference(Workload):
    """Forward without labels in evaluation mode. The adapter is active and not merged."""

    def trial(self, subject: Subject) -> Trial:
        """Build the model in evaluation mode, and remove the labels from the batches."""
        return self._trial(subject, subject.applied_model())

    @staticmethod
    def _trial(subject: Subject, model: torch.nn.Module) -> Trial:
        import torch

        model.eval()
        precision, device = subject.precision, next(model.parameters()).device
        forward = subject.callable(model)
        inputs = [without_labels(batch) for batch in subject.batches]

        @torch.inference_mode()
        def run(number: int, mark: Mark) -> None:
            del mark
            with precision.forward_context(device):
                forward(**inputs[number % len(inputs)])

        @torch.inference_mode()
        def on_batch(batch: Batch) -> None:
            with precision.forward_context(device):
                forward(**batch)

        return executed(Trial(model=model, run=run), subject.execution, on_batch, inputs, device)


@dataclass(frozen=True, kw_only=True)
class MergedInference(Inference):
    """Forward without labels in evaluation mode. The adapter is merged; the reference has no adapter to merge."""

    def unsupported(self, method: Method, precision: Precision) -> str:
        """Return the reason why the method cannot be merged, or ''."""
        del precision
        return method.why_not_merged

    def trial(self, subject: Subject) -> Trial:
        """Build the model and merge the adapter into it."""
        return self._trial(subject, subject.method.merge(subject.applied_model().eval()))

    def reference_trial(self, subject: Subject) -> Trial:
        """Build the reference without merging."""
        return Inference.trial(self, subject)


def training_step(
    subject: Subject, model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, max_norm: float | None = None
) -> Callable[[Batch, int, Mark], Any]:
    """Return the function that takes one training step. Given batch, index of the step and mark, it returns the loss.

    Args:
        subject: The method that is trained, and its precision.
        model: The model with the subject's method applied, in training mode.
        optimizer: The optimizer of the model.
        max_norm: Norm to which all gradients together are clipped; None: they are not clipped.
    """
    import torch

    method, precision = subject.method, subject.precision
    device = next(model.parameters()).device
    forward = subject.callable(model)
    scaler = precision.scaler(device)
    after_step = method.step_hook(model)
    regularised = method.auxiliary_loss(model) is not None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def update() -> None:
        if scaler is not None and max_norm is not None:
            scaler.unscale_(optimizer)
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(trained, max_norm)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()

    # The base step of a language model trains nothing: the task has no head of its own.
    apply_gradients = update if trained else nothing

    def step(batch: Batch, number: int, mark: Mark) -> Any:  # noqa: ANN401 - a tensor, of an untyped model
        with precision.forward_context(device):
            loss = forward(**batch).loss
            if regularised:
                loss = loss + method.auxiliary_loss(model)
        mark()
        (loss if scaler is None else scaler.scale(loss)).backward()
        mark()
        apply_gradients()
        if after_step is not None:
            after_step(number)
        optimizer.zero_grad(set_to_none=True)
        mark()
        return loss

    return step


def _let_gradients_through(model: PreTrainedModel, batch: Batch) -> None:
    """Let what the embeddings return require a gradient, so that backward passes run through all of the backbone.

    Transformers' own way does not do where it does not know which they are (Canine hashes characters into several),
    or where a model changes in place what they return (CTRL).

    Args:
        model: fresh, on the device.
        batch: of which the first row is tried.
    """
    import torch

    model.enable_input_require_grads()
    if _gradients_pass(model, batch):
        return

    def require(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        del module, inputs
        return output.requires_grad_(True).clone()  # noqa: FBT003 torch's own name

    model.disable_input_require_grads()
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.register_forward_hook(require)


def _gradients_pass(model: PreTrainedModel, batch: Batch) -> bool:
    """Tell whether a loss requires a gradient though all of the model is frozen; leaves it as it was."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)  # noqa: FBT003 torch's own name
    try:
        with seeded(0, model.device):
            return bool(model(**{name: tensor[:1] for name, tensor in batch.items()}).loss.requires_grad)
    except RuntimeError as error:
        if "leaf Variable" not in str(error):
            raise
        return False
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)  # noqa: FBT003


def _representative_round(subject: Subject, model: torch.nn.Module) -> int:
    """Return the index of the first full step after step 0 that takes the first batch.

    Raises:
        UnsupportedError: there is none among the first `MOST_STEPS` steps.
    """
    method, batches = subject.method, len(subject.batches)
    for number in range(batches, MOST_STEPS, batches):
        if method.is_full_step(model, number):
            return number
    raise UnsupportedError(f"none of the first {MOST_STEPS} steps is a full step (is_full_step)")


def without_labels(batch: Batch) -> Batch:
    """Return the batch without its labels, as a deployed model is called."""
    return {name: tensor for name, tensor in batch.items() if name not in LABELS}


WORKLOADS: tuple[Workload, ...] = (
    TrainStep(
        name="train_step",
        summary="forward with loss, backward, optimizer step",
        phases=("forward", "backward", "optimizer"),
        trains=True,
        cuda_tasks=CUDA_TASKS,
        cuda_batch_sizes=CUDA_BATCH_SIZES,
    ),
    Inference(
        name="inference",
        summary="forward in evaluation mode, adapter active",
        cuda_tasks=CUDA_TASKS,
        cuda_batch_sizes=CUDA_BATCH_SIZES,
    ),
    MergedInference(
        name="merged_inference",
        summary="forward in evaluation mode, adapter merged",
        default=False,
        cuda_tasks=CUDA_TASKS,
        cuda_batch_sizes=CUDA_BATCH_SIZES,
    ),
)
