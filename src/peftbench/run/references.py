"""The references of a group, one for each workload. Each is built at its first use and shared by the group's cases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from peftbench.devices.failures import is_out_of_memory
from peftbench.measure.memory.device_memory import parts
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
COUNTED: Final = frozenset({"cuda"})
"""Types of devices whose allocator PyTorch reports."""
ALONE: Final = "timed alone: the reference does not fit on the device beside the case"


def held_bytes(trial: Trial) -> float:
    """Return the bytes of the tensors that an idle trial owns: weights, gradients and optimizer state."""
    owned = parts(trial.model, trial.optimizer)
    return owned.weights_bytes + owned.gradients_bytes + owned.optimizer_bytes


def graph_bytes(trial: Trial) -> float:
    """Return the bytes of a captured graph, which the allocator keeps apart; 0 without one."""
    metric = trial.found().get("graph_bytes")
    return metric.value or 0 if metric else 0


class References:
    """Keeps a reference for each workload until it is dropped."""

    def __init__(self, kind: str, timed: Callable[[Trial], TimedRound]) -> None:
        self._method = METHODS.get(kind)
        self._timed = timed
        self._trials: dict[str, tuple[Workload, Trial]] = {}

    def drop(self, *, above_bytes: float = -1.0) -> bool:
        """Close and drop all references that hold more than so many bytes; return whether there was one."""
        large = {
            name: trial
            for name, (_, trial) in self._trials.items()
            if above_bytes < math.inf and held_bytes(trial) + graph_bytes(trial) > above_bytes
        }
        for name, trial in large.items():
            trial.close()
            del self._trials[name]
        return bool(large)

    def allocated_bytes(self) -> float:
        """Return what the references hold in the device's allocator, so that it is not taken for a leak."""
        trials = [trial for _, trial in self._trials.values()]
        return sum(held_bytes(trial) for trial in trials if next(trial.model.parameters()).device.type in COUNTED)

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
