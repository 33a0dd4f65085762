"""The study of serving N tasks: latency of requests, bytes in memory, and the cost of each further task."""

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
"""Ways to serve that are measured with a lot of one request. The others differ from `switch` only in larger lots."""
ON_ONE_BACKBONE: Final = frozenset({"switch", "grouped", "mixed"})
"""Ways to serve that load one adapter for each task into one model."""


@dataclass(frozen=True, kw_only=True)
class Deployment(Study):
    """Serves N tasks in one way, and answers generated requests.

    The ways are:

    * `models`: one full model for each task;
    * `multitask`: one encoder, one head for each task;
    * `switch`: one backbone with adapters, switched for each request;
    * `grouped`: as `switch`, but requests of one adapter share a batch;
    * `mixed`: one batch whose rows go through different adapters;
    * `merged`: one copy of the model for each task, with the adapter merged;
    * `fusion`: AdapterFusion over all adapters;
    * `dropped`: AdapterDrop, the lower half of the layers without adapters.
    """

    methods: tuple[str, ...] = (FULL, "lora", "pfeiffer", "houlsby", DROP, FUSION)
    tasks: tuple[str, ...] = ("nli",)
    batch_sizes: tuple[int, ...] = (1, 8)

    def expand(self, cases: Sequence[Case], settings: Settings) -> Sequence[Case]:
        """Return one case for each way to serve and number of tasks. `full` adds the multi-task model (`mtl`)."""
        expanded: dict[Case, None] = {}
        for case in cases:
            for spec, way in ways(case.method):
                if case.batch_size > 1 or way in SINGLE:
                    served = Case(spec, case.task, case.batch_size)
                    expanded.update(dict.fromkeys(served.with_variant(by=way, n=n) for n in settings.serve))
        return list(expanded)

    def unsupported_case(self, case: Case, backend: Backend) -> str:
        """Return the reason why a method cannot be served in the way of the case, or ''."""
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
        """Return the method that makes the served model."""
        return backend.definitions.method(FULL if case.method.name == MTL else case.method.name)

    def conduct(self, case: Case, bench: Workbench) -> StudyFindings:
        """Load the server task by task, and answer both mixes of requests."""
        from peftbench.studies.deployment import serving

        return serving.serve(case, bench, self.method_of(case, bench.backend))


def ways(spec: MethodSpec) -> Iterable[tuple[MethodSpec, str]]:
    """Yield each way to serve a method's models, with the method that its cases name."""
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
