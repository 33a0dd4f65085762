"""Starts of LoRA that come from data: the model runs on the task's batches before or after PEFT wraps it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from peftbench.errors import UnsupportedError

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

    from peftbench.tasks.base import Batch

MOST_FORWARDS: Final = 1000
"""Forward passes after which EVA is given up. PEFT goes on until its components stand still, however long it takes."""


class DataStart(ABC):
    """A value of `init_lora_weights` for which the model must run on data first."""

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Return the fields of `peft.LoraConfig` that belong to this start, as PEFT has them by default."""

    def before(self, model: PreTrainedModel, config: LoraConfig, batches: Sequence[Batch]) -> None:
        """Run the plain model, before PEFT wraps it."""
        del model, config, batches

    def after(self, model: PeftModel, batches: Sequence[Batch]) -> None:
        """Run PEFT's new model, and set its new weights."""
        del model, batches


class Eva(DataStart):
    """A starts from the right singular vectors of the layers' inputs. Ranks move to where they explain most."""

    def settings(self) -> Mapping[str, Any]:
        """Return PEFT's `EvaConfig`."""
        from peft import EvaConfig

        return {"eva_config": EvaConfig()}

    def after(self, model: PeftModel, batches: Sequence[Batch]) -> None:
        """Call PEFT's `initialize_lora_eva_weights` with those batches that have tokens enough.

        Raises:
            UnsupportedError: no batch has as many tokens as components are wanted, or the components do not settle.
        """
        from peft import initialize_lora_eva_weights
        from peft.tuners.lora.eva import prepare_model_inputs_fn_language_modeling as positions

        config = model.peft_config[model.active_adapter]
        components = round(config.r * config.eva_config.rho)
        fitting = [batch for batch in map(_for_eva, batches) if len(positions(_flat(batch), config)) >= components]
        if not fitting:
            raise UnsupportedError(
                f"EVA takes {components} components (r x rho) from the tokens of one batch, and no batch has as many: "
                "give a larger batch size, a longer --peftbench-seq-len or a smaller r"
            )
        forwards = 0

        def forward(wrapped: PeftModel, inputs: Batch) -> Any:  # noqa: ANN401 - an output of an untyped model
            nonlocal forwards
            forwards += 1
            if forwards > MOST_FORWARDS:
                raise UnsupportedError(f"EVA's components have not settled after {MOST_FORWARDS} forward passes")
            return wrapped(**inputs)

        initialize_lora_eva_weights(
            model,
            fitting,
            forward_fn=forward,
            prepare_model_inputs_fn=lambda inputs, config: positions(_flat(inputs), config),
            show_progress_bar=False,
        )


class Corda(DataStart):
    """A and B start from a decomposition of the weights that the covariance of the layers' inputs guides."""

    def settings(self) -> Mapping[str, Any]:
        """Return PEFT's `CordaConfig`."""
        from peft.tuners.lora.config import CordaConfig

        return {"corda_config": CordaConfig()}

    def before(self, model: PreTrainedModel, config: LoraConfig, batches: Sequence[Batch]) -> None:
        """Call PEFT's `preprocess_corda`, which takes one sequence at a time."""
        from peft.tuners.lora.corda import preprocess_corda

        def run_model() -> None:
            for sequence in _sequences(batches):
                model(**sequence)

        preprocess_corda(model, config, run_model=run_model)


class LoraGa(DataStart):
    """A and B start from the singular vectors of the weights' gradients."""

    def settings(self) -> Mapping[str, Any]:
        """Return PEFT's `LoraGAConfig`."""
        from peft import LoraGAConfig

        return {"lora_ga_config": LoraGAConfig()}

    def before(self, model: PreTrainedModel, config: LoraConfig, batches: Sequence[Batch]) -> None:
        """Call PEFT's `preprocess_loraga` with a forward and a backward pass of each batch."""
        from peft import preprocess_loraga

        def train_step() -> None:
            for batch in batches:
                cast("Any", model)(**batch).loss.backward()

        preprocess_loraga(model, config, train_step)


STARTS: Final[Mapping[str, DataStart]] = {"eva": Eva(), "corda": Corda(), "lora_ga": LoraGa()}
"""`init_lora_weights` -> how the start is made."""


def start_of(config: object) -> DataStart | None:
    """Return the start that a configuration of PEFT names, if it comes from data."""
    named = getattr(config, "init_lora_weights", None)
    return STARTS.get(named) if isinstance(named, str) else None


def _for_eva(batch: Batch) -> Batch:
    """Return the batch with its labels only if there is one for each token: EVA leaves out tokens without a label."""
    inputs = {name: tensor for name, tensor in batch.items() if not name.endswith(("labels", "_positions"))}
    labels = batch.get("labels")
    return inputs if labels is None or labels.shape != batch["input_ids"].shape else {**inputs, "labels": labels}


def _flat(batch: Batch) -> Batch:
    """Return what a batch has for each token, a row for each sequence: each choice is a sequence of its own."""
    shape = batch["input_ids"].shape
    return {name: tensor.flatten(0, -2) for name, tensor in batch.items() if tensor.shape == shape}


def _sequences(batches: Sequence[Batch]) -> Iterator[Batch]:
    """Yield each sequence of some batches as a batch of its own, without labels, and without padding at its ends."""
    for batch in batches:
        inputs = {name: tensor for name, tensor in _flat(batch).items() if name != "labels"}
        one = (1,) * (batch["input_ids"].dim() - 1)  # a row, or a row with a choice
        for row, tokens in enumerate(inputs["input_ids"]):
            kept = inputs.get("attention_mask", inputs["input_ids"].new_ones(1).expand_as(inputs["input_ids"]))[row]
            first, last = (int(kept.argmax()), len(tokens) - int(kept.flip(0).argmax()))
            yield {name: tensor[row, first:last].reshape(*one, -1) for name, tensor in inputs.items()}
