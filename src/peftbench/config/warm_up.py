"""The steps at the start of a training in which the learning rate rises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from peftbench.config.percentages import percentage_or_number


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A share of the steps of a training, or a number of steps."""

    value: float
    relative: bool

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a share (`10%`) or a number of steps (`2000`).

        Raises:
            ValueError: the text is neither.
        """
        value, percent = percentage_or_number(text)
        if not 0 <= value < math.inf or (value > 100 if percent else value != int(value)):  # noqa: PLR2004
            raise ValueError("must be a share of the steps (10%) or a number of steps (2000)")
        return cls(value / 100 if percent else value, percent)

    def steps(self, total: int) -> int:
        """Return the number of steps, given those of the training."""
        return math.ceil(self.value * total) if self.relative else int(self.value)
