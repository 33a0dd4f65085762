"""AdaLoRA: not every step masks ranks, and PEFT adds its regulariser to the loss in its models for one task only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from peftbench.errors import UserError
from peftbench.methods.peft.method import PeftMethod

if TYPE_CHECKING:
    import torch

    from peftbench.methods.peft.layers import Layers

_SCHEDULE: Final = {"tinit": 0, "tfinal": 0, "deltaT": 1}
"""PEFT's defaults: the step after which ranks are taken away, the steps at the end in which none is, every how many."""


@dataclass(frozen=True, kw_only=True)
class AdaLora(PeftMethod):
    """PEFT's AdaLoRA; where the task has no PEFT task type, the forward pass goes past PEFT's regulariser."""

    def settle(self, settings: Mapping[str, Any], given: Collection[str], layers: Layers) -> Mapping[str, Any]:
        """Keep the defaults' proportion of the first rank to the last where one of them is given.

        Raises:
            UserError: no rank is left to be taken away, or the schedule leaves no step to do it in.
        """
        first, last = self.defaults["init_r"], self.defaults["target_r"]
        settled = dict(settings)
        if "init_r" in given and "target_r" not in given:
            settled["target_r"] = max(1, settings["init_r"] * int(last) // int(first))
        if "target_r" in given and "init_r" not in given:
            settled["init_r"] = min(layers.smallest, -(-settings["target_r"] * int(first) // int(last)))
        if settled["target_r"] >= settled["init_r"]:
            raise UserError(
                f"{self.name}(init_r={settled['init_r']},target_r={settled['target_r']}): AdaLoRA takes ranks away, "
                "so init_r must be above target_r"
            )
        start, end, every = (settled.get(name, default) for name, default in _SCHEDULE.items())
        total = settled["total_step"]
        if start < 0 or end < 0 or every < 1 or start + end + 1 >= total:
            raise UserError(
                f"{self.name}(tinit={start},tfinal={end},deltaT={every},total_step={total}): no step is left to take "
                "ranks away in: tinit + tfinal + 1 must be below total_step, and deltaT at least 1"
            )
        return settled

    def step_hook(self, model: torch.nn.Module) -> Callable[[int], None] | None:
        """Return PEFT's `update_and_allocate`; rounds that go on past the schedule's last step begin it again.

        Past it PEFT only masks what it chose before; that is no step of AdaLoRA's training.
        """
        tuner = cast("Any", model).base_model
        total = tuner.peft_config[tuner.trainable_adapter_name].total_step

        def update(number: int) -> None:
            tuner.update_and_allocate(_within(number, total))

        return update

    def is_full_step(self, model: torch.nn.Module, number: int) -> bool:
        """Tell whether a step weighs and masks ranks, as PEFT's schedule says: `tinit`, `deltaT`, `tfinal`."""
        tuner = cast("Any", model).base_model
        config = tuner.peft_config[tuner.trainable_adapter_name]
        step = _within(number, config.total_step)
        _, masks = tuner.rankallocator.budget_schedule(step)
        return bool(masks) and step < config.total_step - config.tfinal

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


def _within(number: int, total_steps: int) -> int:
    """Return the step of a schedule, which ends with step `total_steps`, that a round stands for."""
    return number if number <= total_steps else number % total_steps
