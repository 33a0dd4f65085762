"""What the cases of one group share while they are measured: batches, and the template in the fastest place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftbench.measure.memory.device_memory import release
from peftbench.state.batches import batches_facet
from peftbench.state.facet import look

if TYPE_CHECKING:
    from peftbench.measure.findings import Probes
    from peftbench.records.ids import Case
    from peftbench.state.facet import Seen
    from peftbench.workloads.backend import Backend, Group


class HeldGroup:
    """The group in use."""

    def __init__(self, backend: Backend, probes: Probes) -> None:
        self._backend = backend
        self._probes = probes
        self._group: Group | None = None
        self.batches: tuple[Seen, ...] = ()
        """The contents of the group's batches, as they were built."""

    def of(self, case: Case) -> Group | None:
        """Return the group if it is that of a case, else None."""
        group = self._group
        return group if group and (group.task.name, group.batch_size) == (case.task, case.batch_size) else None

    def with_task_of(self, case: Case) -> Group | None:
        """Return the group if it has the task of a case, so that its template can be taken over; else None."""
        return self._group if self._group and self._group.task.name == case.task else None

    def drop(self) -> None:
        """Forget the group."""
        self._group, self.batches = None, ()

    def build(self, case: Case, before: Group | None) -> tuple[Group, int]:
        """Build the group of a case, and return it with the bytes that are allocated on the device then.

        Args:
            case: The case.
            before: A group whose template is taken over.
        """
        group = self._group = self._backend.group(case.task, case.batch_size, before=before)
        self.batches = look([batches_facet(group.batches)])
        allocated_bytes = release(self._backend.device)
        self.note()
        return group, allocated_bytes

    def note(self) -> None:
        """Tell the probes what stays in memory now, between two cases."""
        batches = self._group.batches if self._group else ()
        self._probes.between_cases([tensor for batch in batches for tensor in batch.values()])

    def evict(self) -> bool:
        """Take the template from the device, where it only saves time; return whether it was there."""
        if self._group is None or self._group.template.device.type != "cuda":
            return False
        self._group = self._group.evicted()
        return True
