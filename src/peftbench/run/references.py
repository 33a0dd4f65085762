"""The references of a group, one for each workload. Each is built at its first use and shared by the group's cases."""

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
"""Value of `--peftbench-reference` -> method. `TrainStep.reference_trial` makes the base step from `head`."""
ALONE: Final = "timed alone: the reference does not fit on the device beside the case"


class References:
    """Keeps a reference for each workload until it is dropped."""

    def __init__(self, kind: str, timed: Callable[[Trial], TimedRound]) -> None:
        self._method = METHODS.get(kind)
        self._timed = timed
        self._trials: dict[str, tuple[Workload, Trial]] = {}

    def drop(self) -> None:
        """Close and drop all references."""
        for _, trial in self._trials.values():
            trial.close()
        self._trials.clear()

    def of(self, workload: Workload, group: Group) -> tuple[TimedRound | None, str]:
        """Return the warm reference of a workload (None if there is none), and a warning for the record, or ''."""
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
