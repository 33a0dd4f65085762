"""The quality to which the costs of trainings are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from peftbench.errors import UserError

HIGHEST: Final = 1.0
"""The best value of every score."""


@dataclass(frozen=True, slots=True)
class QualityTarget:
    """The quality to which costs are compared."""

    value: float
    relative: bool
    """Whether the value is a share of the quality of full fine-tuning, and not a score."""

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a score (`0.8`) or a share of the quality of full fine-tuning (`97%`).

        Raises:
            UserError: the text is no number, or no score can be so high.
        """
        number, percent, rest = text.strip().partition("%")
        try:
            value = float(number) / (100 if percent else 1)
        except ValueError:
            value = 0.0
        if rest or not value > 0:
            raise UserError(f"target {text!r} cannot be read: write a score (0.8), or a share of full's (97%)")
        if value > HIGHEST and not percent:
            raise UserError(f"target {text} is above what is possible: scores go up to 1, shares are written 97%")
        return cls(value, bool(percent))

    def __str__(self) -> str:
        return f"{100 * self.value:g}%" if self.relative else f"{self.value:g}"

    def quality(self, full: float | None) -> float | None:
        """Return the target as a score; None if it is a share, and full fine-tuning has no quality or a quality of 0.

        A share of 0 is no target: whatever is trained has it before its first step.

        Args:
            full: Quality of full fine-tuning, a score.

        Raises:
            UserError: the target is above the best score.
        """
        if not self.relative:
            return self.value
        if not full:
            return None
        if self.value * full > HIGHEST:
            raise UserError(
                f"target {self.value:.0%} of full fine-tuning's {full:.3f} is {self.value * full:.3f}, above what is "
                "possible: scores go up to 1; lower the target"
            )
        return self.value * full
