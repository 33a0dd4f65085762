"""The reference of each workload in a group: built when first asked for, alternated with every case of the group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from peftbench.devices.failures import is_out_of_memory
from peftbench.measure.time.rounds import warm_up
from peftbench.records.ids import MethodSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from peftbench.measure.time.rounds import TimedRound
    from peftbench.measure.trial import Trial
    from peftbench.workloads.backend import Group
    from peftbench.workloads.base import Workload
    from peftbench.workloads.subject import Subject

METHODS: Final = {"base": MethodSpec("head"), "full": MethodSpec("full")}
"""What `--peftbench-reference` stands for; the base step trains the head on a frozen backbone (`TrainStep`: how)."""
ALONE: Final = "timed alone: the reference does not fit on the device beside the case"


class References:
    """Keeps a reference for each workload until it is dropped."""

    def __init__(self, kind: str, timed: Callable[[Trial], TimedRound]) -> None:
        self._method = METHODS.get(kind)
        self._timed = timed
        self._trials: dict[str, tuple[Workload, Trial]] = {}

    def drop(self) -> None:
        """Let go of all of them."""
        for _, trial in self._trials.values():
            trial.close()
        self._trials.clear()

    def of(self, workload: Workload, group: Group) -> tuple[TimedRound | None, str]:
        """Return the warm reference of a workload, or None, and what the record must say about it."""
        if self._method is None or not workload.paired:
            return None, ""
        try:
            return self._warm(workload, group.subject(self._method)), ""
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        self.drop()
        return None, ALONE

    def _warm(self, workload: Workload, subject: Subject) -> TimedRound:
        known, trial = self._trials.get(workload.name, (None, None))
        if trial is None or known != workload:  # two functions of a user can share a name
            if trial is not None:
                trial.close()
            trial = workload.reference_trial(subject)
            self._trials[workload.name] = workload, trial
            warm_up(self._timed(trial))
        return self._timed(trial)
