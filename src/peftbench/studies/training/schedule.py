"""How the learning rate changes over a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from peftbench.config.warm_up import WarmUp

if TYPE_CHECKING:
    import torch

    from peftbench.config.settings import Settings


TENTH: Final = WarmUp(0.1, relative=True)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The shape of the learning rate: it rises linearly over the warm-up, and then falls to zero or stays."""

    shape: str = "linear"
    """One of `choices.SCHEDULES`: how it falls after the warm-up."""
    warm_up: WarmUp = TENTH

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the schedule of the settings."""
        return cls(settings.schedule, WarmUp.read(settings.warm_up))

    def scheduler(self, optimizer: torch.optim.Optimizer, total_steps: int) -> Any:  # noqa: ANN401 - transformers'
        """Return what sets the learning rate of an optimizer, step by step."""
        from transformers import get_scheduler

        name = "constant_with_warmup" if self.shape == "constant" else self.shape
        return get_scheduler(name, optimizer, self.warm_up.steps(total_steps), total_steps)


USUAL: Final = Schedule()
