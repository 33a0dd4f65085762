"""How long a run will take, said before it begins: a pure function of the number of cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from peftbench.report.numbers import counted

if TYPE_CHECKING:
    from peftbench.records.ids import Case
    from peftbench.workloads.backend import Backend

CASE_S: Final = 1.5
"""Seconds of a case on a GPU besides its rounds and its energy window: build, counters, memory, profile."""
ENERGY_S: Final = 2.2
"""Seconds of an energy window, with the steps before it."""
GROUP_S: Final = 3.0
"""Seconds of a group: its batches, its template, and its references."""
PROOF_S: Final = 3.0
"""Seconds of a validity pass, once for a method on a task."""


def expected_s(*, cases: int, groups: int, proofs: int, budget_s: float, energy: bool) -> float:
    """Return the seconds that a run on a GPU is expected to take.

    Args:
        cases: Number of cases with rounds.
        groups: Number of tasks and batch sizes.
        proofs: Number of methods on tasks.
        budget_s: Seconds for the rounds of a case.
        energy: Whether joules are measured.
    """
    return cases * (CASE_S + budget_s + (ENERGY_S if energy else 0.0)) + groups * GROUP_S + proofs * PROOF_S


def foreseen(backend: Backend, cases: Sequence[Case]) -> str:
    """Return the line for the user about a run on a GPU; '' on a CPU, where progress soon shows it."""
    if backend.device.type != "cuda":
        return ""
    from peftbench.run.passes import budget_s

    seconds = expected_s(
        cases=len(cases),
        groups=len({case.group for case in cases}),
        proofs=len({(case.method, case.task) for case in cases}),
        budget_s=budget_s(backend),
        energy=backend.settings.energy != "off",
    )
    return announcement(seconds, cases=len(cases), device=str(backend.device))


def announcement(seconds: float, *, cases: int, device: str) -> str:
    """Return the line for the user."""
    minutes = max(1, round(seconds / 60))
    return f"{counted(cases, 'case')} on {device}: about {counted(minutes, 'minute')}, less where rounds agree early"
