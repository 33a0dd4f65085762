"""What the probes of a device find, and what every device's probes can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from peftbench.measure.time.rounds import Rounds
    from peftbench.measure.trial import Trial
    from peftbench.records.record import KernelTime, Metric


@dataclass(frozen=True, slots=True)
class ProbeFindings:
    """The metrics and the warnings of one probe."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    longest_kernels: tuple[KernelTime, ...] | None = None
    """The kernels that took most of the device's time; None if the probe does not look at kernels."""
    timeline: Mapping[str, tuple[float, ...]] | None = None
    """Readings of the device over time; None if nothing sampled them."""


class Probes(Protocol):
    """The readings of one device."""

    beside: int
    """Processes of ours that share the device by intent, as in lock-step."""

    def room(self) -> float:
        """Return the bytes up to which a reference stays for the next case, which may need the memory."""
        ...

    def between_cases(self, batches: Iterable[torch.Tensor]) -> None:
        """Note what stays in memory between two cases, so that it does not count as the next one's.

        Args:
            batches: The batches of the group. Each case needs them itself.
        """
        ...

    def memory(self, trial: Trial) -> dict[str, Metric]:
        """Return the memory of a representative round, and run one at least. The trial has run its first round."""
        ...

    def rounds(self, take: Callable[[], Rounds]) -> tuple[Rounds, ProbeFindings]:
        """Return the rounds and the state of the device; rounds in which it slowed down are taken again."""
        ...

    def busy(self, trial: Trial, *, phases: Sequence[str], time_s: float) -> ProbeFindings:
        """Profile a few further rounds: how long the device is busy in one, and with what.

        Args:
            trial: The trial, which is warm.
            phases: Names of the phases of a round.
            time_s: Median time of its timed rounds.
        """
        ...

    def energy(self, trial: Trial, *, tokens: float | None) -> ProbeFindings:
        """Measure the joules of further rounds.

        Args:
            trial: The trial, which is warm.
            tokens: Tokens of a batch without padding; None if a round works on no batch.
        """
        ...

    def fingerprint(self) -> dict[str, str]:
        """Return the properties of the device that must be equal for times to be compared."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...
