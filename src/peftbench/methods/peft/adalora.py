"""AdaLoRA: not every step masks ranks, and PEFT adds its regulariser to the loss in its models for one task only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from peftbench.methods.peft.method import PeftMethod

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class AdaLora(PeftMethod):
    """PEFT's AdaLoRA; where the task has no PEFT task type, the forward pass goes past PEFT's regulariser."""

    def is_full_step(self, model: torch.nn.Module, number: int) -> bool:
        """Tell whether a step masks ranks, as PEFT's schedule says: `tinit`, `deltaT`, `tfinal`."""
        _, masks = cast("Any", model).base_model.rankallocator.budget_schedule(number)
        return bool(masks)

    def auxiliary_loss(self, model: torch.nn.Module) -> torch.Tensor | None:
        """Return `orth_reg_weight` times the mean of |A A^T - I| and |B^T B - I| (Frobenius), where PEFT adds none."""
        import torch

        tuner = cast("Any", model).base_model
        adapter = tuner.trainable_adapter_name
        config = tuner.peft_config[adapter]
        if config.task_type is not None:
            return None
        grams = [
            parameter @ parameter.T if "lora_A" in name else parameter.T @ parameter
            for name, parameter in tuner.model.named_parameters()
            if name.endswith((f"lora_A.{adapter}", f"lora_B.{adapter}"))
        ]
        distances = [(gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).norm() for gram in grams]
        return cast("torch.Tensor", config.orth_reg_weight * torch.stack(distances).mean())
