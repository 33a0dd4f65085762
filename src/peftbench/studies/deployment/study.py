"""The study of serving N tasks: what a request waits for, what is held in memory, what a further task takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from peftbench.methods.peft.method import PeftMethod
from peftbench.records.ids import Case, MethodSpec
from peftbench.studies.base import Study, StudyFindings
from peftbench.studies.training.results import DEPLOYMENT, FULL, FUSION, MTL
from peftbench.workloads.base import Workbench

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.methods.base import Method
    from peftbench.workloads.backend import Backend

DROP: Final = "adapterdrop"

SINGLE: Final = ("models", "multitask", "switch", "merged", "fusion", "dropped")
"""Ways to serve that a single request at a time can tell apart."""
ON_ONE_BACKBONE: Final = frozenset({"switch", "grouped", "mixed"})
"""Ways to serve that load an adapter a task into one model."""


@dataclass(frozen=True, kw_only=True)
class Deployment(Study):
    """Serves N tasks in one way, and answers requests from a generator.

    The ways: `models` (a full model a task), `multitask` (one encoder, a head a task), `switch` (one backbone with
    adapters, switched for each request), `grouped` (the same, requests of one adapter share a batch), `mixed` (one
    batch whose rows go through different adapters), `merged` (a copy a task, adapter folded in), `fusion`
    (AdapterFusion over all adapters), `dropped` (AdapterDrop: the lower half of the layers without adapter).
    """

    methods: tuple[str, ...] = (FULL, "lora", "pfeiffer", "houlsby", DROP, FUSION)
    tasks: tuple[str, ...] = ("nli",)
    batch_sizes: tuple[int, ...] = (1, 8)

    def expand(self, cases: Sequence[Case], settings: Settings) -> Sequence[Case]:
        """Return a case a way to serve and number of tasks; the multi-task model comes with full fine-tuning."""
        expanded: dict[Case, None] = {}
        for case in cases:
            for spec, way in ways(case.method):
                if case.batch_size > 1 or way in SINGLE:
                    served = Case(spec, case.task, case.batch_size)
                    expanded.update(dict.fromkeys(served.with_variant(by=way, n=n) for n in settings.serve))
        return list(expanded)

    def unsupported_case(self, case: Case, backend: Backend) -> str:
        """Return why a method cannot be served in that way, or ''."""
        method, way, n = self.method_of(case, backend), case.varied("by"), int(case.varied("n"))
        if way == "merged" and not method.mergeable:
            return f"{method.name} cannot be merged into the weights of the model"
        if way in ON_ONE_BACKBONE and n > 1 and isinstance(method, PeftMethod) and method.why_alone:
            return method.why_alone
        if way == "fusion" and n == 1:
            return "AdapterFusion mixes two adapters or more"
        task = backend.definitions.task(case.task)
        return method.unsupported(task, architecture=backend.config.model_type)

    def method_of(self, case: Case, backend: Backend) -> Method:
        """Return the method by which the served model is made."""
        return backend.definitions.method(FULL if case.method.name == MTL else case.method.name)

    def conduct(self, case: Case, bench: Workbench) -> StudyFindings:
        """Load the server task by task, and let it answer both mixes of requests."""
        from peftbench.studies.deployment import serving

        return serving.serve(case, bench, self.method_of(case, bench.backend))


def ways(spec: MethodSpec) -> Iterable[tuple[MethodSpec, str]]:
    """Yield the ways in which what a method trains can be served."""
    if spec.name == FULL:
        yield spec, "models"
    if spec.name in (FULL, MTL):
        yield MethodSpec(MTL), "multitask"
    elif spec.name == FUSION:
        yield spec, "fusion"
    else:
        yield spec, "switch"
        yield spec, "grouped"
        if spec.name == DROP:
            yield spec, "dropped"
            return
        yield spec, "mixed"
        yield spec, "merged"


WORKLOADS: Final[tuple[Study, ...]] = (
    Deployment(name=DEPLOYMENT, summary="N tasks to serve: latency, throughput, bytes, time to load and to switch"),
)
