"""The study of what it costs to reach a quality: one method, trained for real on one task from one seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import TYPE_CHECKING, Final

from peftbench.config.target import QualityTarget
from peftbench.errors import UserError
from peftbench.studies.base import Study, StudyFindings
from peftbench.studies.training.results import CONVERGENCE, FULL, FUSION, Training, best_lr, full_quality, trainings
from peftbench.workloads.base import Workbench

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.records.ids import Case, Scalar
    from peftbench.records.record import Record
    from peftbench.workloads.backend import Backend


@dataclass(frozen=True, kw_only=True)
class Convergence(Study):
    """Trains until the quality is reached, rises no more, or the budget is spent."""

    methods: tuple[str, ...] = ("full", "lora", "pfeiffer", "houlsby")
    batch_sizes: tuple[int, ...] = (32,)

    def expand(self, cases: Sequence[Case], settings: Settings) -> Sequence[Case]:
        """Return a case a seed and learning rate; full fine-tuning, which sets the target, comes first in its group."""
        ordered = [
            case
            for _, group in groupby(cases, key=lambda case: case.group)
            for case in sorted(group, key=lambda case: case.method.name != FULL)
        ]
        return [case.with_variant(**variant) for case in ordered for variant in variants(settings)]

    def check(self, backend: Backend, cases: Sequence[Case]) -> None:
        """Read all data, and refuse a target that nothing sets."""
        from peftbench.studies.training import task_data

        task_data.check(backend, list(dict.fromkeys(task for case in cases for task in case.tasks)))
        require_full(backend.settings, [case.method.name for case in cases])

    def unsupported_case(self, case: Case, backend: Backend) -> str:
        """Return why a case cannot be done, or ''; what mixes trained adapters is not trained on random ones."""
        if case.method.name == FUSION and not dict(case.method.overrides).get("paths"):
            return "AdapterFusion mixes trained adapters, and these are random: give adapterfusion(paths=...)"
        return Study.unsupported_case(self, case, backend)

    def needless(self, case: Case, settings: Settings, records: Iterable[Record]) -> str:
        """Return that the same training is there already, or that another learning rate is better."""
        records = list(records)
        return measured_already(case, records) or pruned(case, settings, trainings(records))

    def conduct(self, case: Case, bench: Workbench) -> StudyFindings:
        """Train once."""
        from peftbench.studies.training import single

        target, full = (
            QualityTarget.read(bench.backend.settings.target),
            full_quality(trainings(bench.records), case.group),
        )
        # Full fine-tuning cut off at a share of its own quality so far would lower the target that it sets.
        sets_target = target.relative and case.method.name == FULL
        return single.train_once(case, bench, None if sets_target else target.quality(full))


def variants(settings: Settings) -> list[dict[str, Scalar]]:
    """Return seed and learning rate of each training of a method, the first seed's first."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    return [{"seed": seed, "lr": lr} for seed, lr in product(seeds, dict.fromkeys(settings.learning_rates))]


def measured_already(case: Case, records: Iterable[Record], workload: str = CONVERGENCE) -> str:
    """Return that a record holds the same training, or ''."""
    key = (str(case.method), case.group, dict(case.variant))
    twin = next(
        (one for one in trainings(records, workload) if (one.method, one.group, dict(one.record.variant)) == key), None
    )
    return f"the same training as {twin.record.id}" if twin else ""


def pruned(case: Case, settings: Settings, found: Iterable[Training]) -> str:
    """Return why a learning rate is not tried with a further seed, or ''.

    The first one is, since it serves all methods, and so is the method's best with the first seed; where a share of
    old tasks is replayed, the best with that share.
    """
    variant = dict(case.variant)
    key = (str(case.method), case.group, variant.get("replay"))
    mine = [one for one in found if (one.method, one.group, one.record.variant.get("replay")) == key]
    if variant["seed"] == settings.seed or variant["lr"] == settings.learning_rates[0] or not mine:
        return ""
    best = best_lr(mine)
    return "" if variant["lr"] == best else f"learning rate {best} was the best with seed {settings.seed}"


def require_full(settings: Settings, methods: Iterable[str]) -> None:
    """Raise UserError where trainings are to stop at a share of full fine-tuning's quality, and it is not measured."""
    if settings.stop == "target" and QualityTarget.read(settings.target).relative and FULL not in methods:
        raise UserError(
            f"--peftbench-stop=target with --peftbench-target={settings.target} needs full fine-tuning: "
            "add full to --peftbench-methods, or give the target as a score"
        )


WORKLOADS: Final[tuple[Study, ...]] = (
    Convergence(name=CONVERGENCE, summary="a real training: steps, time, FLOPs, joules and memory to a quality"),
)
