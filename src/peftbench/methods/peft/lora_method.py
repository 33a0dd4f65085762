"""LoRA as a method: it may start from data, or from what quantising the backbone lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.peft.layers import backbone, is_linear
from peftbench.methods.peft.library import faults_as
from peftbench.methods.peft.method import PeftMethod
from peftbench.methods.peft.overrides import culprit_of
from peftbench.methods.peft.starts import STARTS, start_of
from peftbench.methods.preparation import preparing
from peftbench.records.scratch import scratch_folder

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

    from peftbench.methods.base import Application
    from peftbench.methods.peft.layers import Layers


@dataclass(frozen=True, kw_only=True)
class LoraMethod(PeftMethod):
    """LoRA or a variant of it, which may start from data."""

    def settle(self, settings: Mapping[str, Any], given: Collection[str], layers: Layers) -> Mapping[str, Any]:
        """Add the configuration of a start from data."""
        start = STARTS.get(str(settings.get("init_lora_weights")))
        settled = PeftMethod.settle(self, settings, given, layers)
        return {**start.settings(), **settled} if start else settled

    def remarks(self, model: PreTrainedModel, application: Application) -> tuple[str, ...]:
        """Return as well the tokens from which on aLoRA works, where they were read off the data."""
        tokens = self.read(application).get("alora_invocation_tokens", ())
        active = f"works from the last of the tokens {'+'.join(map(str, tokens))} on, which all prompts have"
        return (*PeftMethod.remarks(self, model, application), *([active] if tokens else ()))

    def prepare(self, model: PreTrainedModel, config: PeftConfig, application: Application) -> None:
        """Run the plain model on the batches if its start comes from data; raises UserError if there are none."""
        PeftMethod.prepare(self, model, config, application)
        if start := start_of(config):
            self._require_batches(application)
            with preparing(model), self._running(application):
                start.before(model, config, application.batches)

    def start(self, model: PeftModel, application: Application) -> None:
        """Run PEFT's new model on the batches if its start comes from data."""
        if start := start_of(model.peft_config[model.active_adapter]):
            with preparing(model), self._running(application):
                start.after(model, application.batches)

    def _running(self, application: Application) -> AbstractContextManager[None]:
        return faults_as(culprit_of(application), f"prepare {self.name}", running=True)

    def _require_batches(self, application: Application) -> None:
        if not application.batches:
            raise UserError(f"{self.name} starts from data: give batches=..., a few batches of the task with labels")


@dataclass(frozen=True, kw_only=True)
class LoftqMethod(LoraMethod):
    """LoRA that makes up for what quantising took from the weights, as far as its rank goes."""

    def apply(self, model: PreTrainedModel, application: Application) -> torch.nn.Module:
        """Quantise, wrap, and call PEFT's `replace_lora_weights_loftq` with the weights as they were.

        Raises:
            UnsupportedError: the model is on a CPU.
        """
        from peft import replace_lora_weights_loftq
        from safetensors.torch import save_file

        if model.device.type == "cpu":
            raise UnsupportedError("PEFT computes LoftQ on an accelerator only (it moves the weights to CUDA)")
        layers = ((name, module) for name, module in backbone(model) if is_linear(module))
        plain = {f"{name}.weight": cast("Any", layer).weight.detach().cpu().contiguous() for name, layer in layers}
        wrapped = LoraMethod.apply(self, model, application)
        with scratch_folder() as folder, preparing(cast("PreTrainedModel", wrapped)), self._running(application):
            save_file(plain, folder / "model.safetensors")
            replace_lora_weights_loftq(wrapped, model_path=str(folder / "model.safetensors"))
        return wrapped
