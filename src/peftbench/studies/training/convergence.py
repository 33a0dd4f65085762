"""The study of the cost to reach a quality: one real training of one method on one task, with one seed."""

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
    from peftbench.devices.precision import Precision
    from peftbench.methods.base import Method
    from peftbench.records.ids import Case, Scalar
    from peftbench.records.record import Record
    from peftbench.workloads.backend import Backend


@dataclass(frozen=True, kw_only=True)
class Convergence(Study):
    """Trains until the target is reached, the quality stops rising, or the budget of steps is spent."""

    methods: tuple[str, ...] = ("full", "lora", "pfeiffer", "houlsby")
    batch_sizes: tuple[int, ...] = (32,)

    def expand(self, cases: Sequence[Case], settings: Settings) -> Sequence[Case]:
        """Return one case for each seed and learning rate. Full fine-tuning, which sets the target, is the first."""
        ordered = [
            case
            for _, group in groupby(cases, key=lambda case: case.group)
            for case in sorted(group, key=lambda case: case.method.name != FULL)
        ]
        return [case.with_variant(**variant) for case in ordered for variant in variants(settings)]

    def check(self, backend: Backend, cases: Sequence[Case]) -> None:
        """Read all data.

        Raises:
            UserError: the data cannot be used, or the target needs full fine-tuning and it is not measured.
        """
        from peftbench.studies.training import task_data

        task_data.check(backend, list(dict.fromkeys(task for case in cases for task in case.tasks)))
        require_full(backend.settings, [case.method.name for case in cases])

    def unsupported(self, method: Method, precision: Precision) -> str:
        """Return the reason why the method cannot be trained, or no model at this precision, or ''."""
        return method.untrainable or precision.untrainable

    def unsupported_case(self, case: Case, backend: Backend) -> str:
        """Return the reason why a case cannot be measured, or ''. AdapterFusion needs adapters that are trained."""
        if case.method.name == FUSION and not dict(case.method.overrides).get("paths"):
            return "AdapterFusion mixes trained adapters, and these are random: give adapterfusion(paths=...)"
        return Study.unsupported_case(self, case, backend)

    def needless(self, case: Case, settings: Settings, records: Iterable[Record]) -> str:
        """Return that the same training was measured already, or that another learning rate is better, or ''."""
        records = list(records)
        return measured_already(case, records) or pruned(case, settings, trainings(records))

    def conduct(self, case: Case, bench: Workbench) -> StudyFindings:
        """Train once."""
        from peftbench.studies.training import single

        target, full = (
            QualityTarget.read(bench.backend.settings.target),
            full_quality(trainings(bench.records), case.group),
        )
        # Full fine-tuning that ends at a share of its own quality would lower the target that it sets for others.
        sets_target = target.relative and case.method.name == FULL
        return single.train_once(case, bench, None if sets_target else target.quality(full))


def variants(settings: Settings) -> list[dict[str, Scalar]]:
    """Return seed and learning rate of each training of a method, those of the first seed first."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    return [{"seed": seed, "lr": lr} for seed, lr in product(seeds, dict.fromkeys(settings.learning_rates))]


def measured_already(case: Case, records: Iterable[Record], workload: str = CONVERGENCE) -> str:
    """Return the reason that a record holds the same training, or ''."""
    key = (str(case.method), case.group, dict(case.variant))
    twin = next(
        (one for one in trainings(records, workload) if (one.method, one.group, dict(one.record.variant)) == key), None
    )
    return f"the same training as {twin.record.id}" if twin else ""


def pruned(case: Case, settings: Settings, found: Iterable[Training]) -> str:
    """Return the reason why a learning rate is not tried with a further seed, or ''.

    Two learning rates are tried with further seeds: the first one, which all methods share, and the method's best with
    the first seed. If old tasks are replayed, the best is taken among trainings with the same share.
    """
    variant = dict(case.variant)
    key = (str(case.method), case.group, variant.get("replay"))
    mine = [one for one in found if (one.method, one.group, one.record.variant.get("replay")) == key]
    if variant["seed"] == settings.seed or variant["lr"] == settings.learning_rates[0] or not mine:
        return ""
    best = best_lr(mine)
    return "" if variant["lr"] == best else f"learning rate {best} was the best with seed {settings.seed}"


def require_full(settings: Settings, methods: Iterable[str]) -> None:
    """Check that full fine-tuning is measured if trainings stop at a share of its quality.

    Raises:
        UserError: it is not among `methods`.
    """
    if settings.stop == "target" and QualityTarget.read(settings.target).relative and FULL not in methods:
        raise UserError(
            f"--peftbench-stop=target with --peftbench-target={settings.target} needs full fine-tuning: "
            "add full to --peftbench-methods, or give the target as a score"
        )


WORKLOADS: Final[tuple[Study, ...]] = (
    Convergence(name=CONVERGENCE, summary="a real training: steps, time, FLOPs, joules and memory to a quality"),
)
