"""The study of merging: K trained adapters, and what is left of their quality in one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from peftbench.methods.peft.combining import why_not_combined
from peftbench.records.ids import Case, joint_task
from peftbench.studies.base import Study, StudyFindings
from peftbench.studies.training.multitask import check_several
from peftbench.studies.training.results import HEADS, MERGING, OWN
from peftbench.workloads.base import Workbench

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.devices.precision import Precision
    from peftbench.methods.base import Method
    from peftbench.records.record import Record
    from peftbench.workloads.backend import Backend


@dataclass(frozen=True, kw_only=True)
class Merging(Study):
    """Trains an adapter for each task, merges their bodies in one way, and scores every task with its own head."""

    methods: tuple[str, ...] = ("lora", "ia3")
    batch_sizes: tuple[int, ...] = (32,)

    def expand(self, cases: Sequence[Case], settings: Settings) -> Sequence[Case]:
        """Return one case of all tasks for each method, batch size, seed and way; the end points are ways, too."""
        tasks = joint_task(dict.fromkeys(case.task for case in cases))
        joint = dict.fromkeys(Case(case.method, tasks, case.batch_size) for case in cases)
        seeds = range(settings.seed, settings.seed + settings.seeds)
        ways = dict.fromkeys((OWN, *settings.merge, HEADS))
        return [case.with_variant(seed=seed, by=way) for case in joint for seed in seeds for way in ways]

    def check(self, backend: Backend, cases: Sequence[Case]) -> None:
        """Read all data.

        Raises:
            UserError: there is only one task, or the data cannot be used.
        """
        check_several(self.name, backend, cases)

    def unsupported(self, method: Method, precision: Precision) -> str:
        """Return the reason why the method cannot be trained, or no model at this precision, or ''."""
        return method.untrainable or precision.untrainable

    def unsupported_case(self, case: Case, backend: Backend) -> str:
        """Return the reason why a case cannot be measured, or ''. End points need a method that can be merged."""
        way = str(case.varied("by"))
        method = backend.definitions.method(case.method.name)
        reason = why_not_combined(method, "linear" if way in (OWN, HEADS) else way)
        return reason or Study.unsupported_case(self, case, backend)

    def needless(self, case: Case, settings: Settings, records: Iterable[Record]) -> str:
        """Return ''. The trainings are shared between the cases of one seed."""
        del case, settings, records
        return ""

    def conduct(self, case: Case, bench: Workbench) -> StudyFindings:
        """Train the adapters, unless the last case did so, merge them, and score every task."""
        from peftbench.studies.merging import merged

        return merged.merge(case, bench)


WORKLOADS: Final[tuple[Study, ...]] = (
    Merging(name=MERGING, summary="real trainings of an adapter a task, merged into one: bytes, quality that is left"),
)
