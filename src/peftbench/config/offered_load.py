"""The rate at which requests arrive at a server that does not set their pace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from peftbench.config.percentages import percentage_or_number


@dataclass(frozen=True, slots=True)
class OfferedLoad:
    """A share of what a server can answer, or a number of requests a second."""

    value: float
    relative: bool

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a share of the capacity (`75%`) or a rate in requests a second (`20`).

        Raises:
            ValueError: the text is neither.
        """
        value, percent = percentage_or_number(text)
        if not 0 < value < math.inf:
            raise ValueError("must be shares of the capacity (50%) or requests a second (20), above 0")
        return cls(value / 100 if percent else value, percent)

    def per_s(self, capacity_per_s: float) -> float:
        """Return the load in requests a second, given the rate at which the server answers without a pause."""
        return self.value * capacity_per_s if self.relative else self.value
