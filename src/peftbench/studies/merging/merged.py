"""Merges the adapters of one case in one way, and scores every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Final, cast

import torch

from peftbench.errors import UnsupportedError
from peftbench.methods.peft.combining import (
    Combination,
    CombinedBody,
    combine,
    parts_of,
    size_bytes,
    with_head_of,
    with_parts,
)
from peftbench.methods.peft.method import PeftMethod
from peftbench.records.record import Metric
from peftbench.studies.base import StudyFindings
from peftbench.studies.merging.own_adapters import OwnAdapter, own_adapters, rate_metric
from peftbench.studies.training.evaluate import evaluate
from peftbench.studies.training.results import HEADS, OWN
from peftbench.studies.training.single import job_of, score, task_data_of
from peftbench.studies.untrained import disturbed
from peftbench.workloads.step import without_labels

if TYPE_CHECKING:
    from peftbench.records.ids import Case
    from peftbench.workloads.base import Workbench
    from peftbench.workloads.subject import Subject

PROOF_NOISE: Final = 0.1
"""Standard deviation of the noise that makes the adapter of the proof. It changes answers by more than rounding."""
TOLERANCE: Final = 0.1
"""Largest change of the answers by a merge with nothing, as a share of what the adapter changes."""


def merge(case: Case, bench: Workbench) -> StudyFindings:
    """Merge the adapters of all tasks in the way of the case, and return bytes and qualities.

    Raises:
        UnsupportedError: the method's adapters cannot be merged, or not so that one alone stays what it is.
    """
    way = str(case.varied("by"))
    _prove(case, bench)
    adapters = own_adapters(case, bench)
    if way == OWN:
        return StudyFindings(_metrics(adapters, [one.quality for one in adapters], _own_bytes(adapters), None))
    if way == HEADS:
        heads = sum(size_bytes(one.parts.head) for one in adapters)
        return StudyFindings(_metrics(adapters, [_scored(bench, one, None) for one in adapters], heads, None))
    settings = bench.backend.settings
    how = Combination(way, settings.merge_weight or 1 / len(adapters), settings.merge_density, case.seed)
    found, merge_s = combined(adapters, how, bench)
    stored = size_bytes(found.body) + sum(size_bytes(one.parts.head) for one in adapters)
    return StudyFindings(_metrics(adapters, [_scored(bench, one, found) for one in adapters], stored, merge_s))


def combined(adapters: Sequence[OwnAdapter], how: Combination, bench: Workbench) -> tuple[CombinedBody, float]:
    """Return the merged body of adapters, and the seconds of the merge.

    Raises:
        UnsupportedError: PEFT cannot merge them; says why.
    """
    first = adapters[0].subject
    return combine(
        cast("PeftMethod", first.method),
        first.fresh_model(),
        first.application,
        [one.parts.body for one in adapters],
        how,
        took=lambda run: bench.clock.time(_without_mark(run)).wall_s,
    )


def _without_mark(run: Callable[[], None]) -> Callable[[object], None]:
    return lambda _: run()


def _scored(bench: Workbench, own: OwnAdapter, found: CombinedBody | None) -> float:
    """Return the quality of a task with its own head and the merged body, or without any."""
    data, subject = task_data_of(bench, own.task), own.subject
    if found is None:
        model: torch.nn.Module = with_head_of(subject.fresh_model(), own.parts.head)
    else:
        model = _fitted(subject, found, own.parts.head)
    return evaluate(model, data.validation, collate=data.collate, precision=subject.precision)[data.metric]


def _fitted(subject: Subject, found: CombinedBody, head: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    return with_parts(cast("PeftMethod", subject.method), subject.fresh_model(), subject.application, found, head)


def _own_bytes(adapters: Sequence[OwnAdapter]) -> int:
    return sum(size_bytes(one.parts.body) + size_bytes(one.parts.head) for one in adapters)


def _metrics(
    adapters: Sequence[OwnAdapter], qualities: Sequence[float], stored_bytes: int, merge_s: float | None
) -> dict[str, Metric]:
    """Return the metrics of a way to keep several tasks."""
    pairs = [(quality, one.quality) for quality, one in zip(qualities, adapters, strict=True)]
    left = [quality / own for quality, own in pairs if own > 0]
    lost = next((one.task for one in adapters if not one.quality > 0), None)
    reason = f"the own adapter of {lost} scores nothing" if lost is not None else ""
    mean, worst = (None, None) if reason else (fmean(left), min(left))
    nothing = "nothing is merged" if merge_s is None else ""
    return {
        "quality_ratio": Metric(mean, "1", better="higher", noise="sampled", reason=reason),
        "worst_quality_ratio": Metric(worst, "1", better="higher", noise="sampled", reason=reason),
        "quality": score(fmean(qualities)),
        **{f"quality@{one.task}": score(quality) for one, quality in zip(adapters, qualities, strict=True)},
        "stored_bytes": Metric(stored_bytes, "B"),
        "bytes_ratio": Metric(stored_bytes / _own_bytes(adapters), "1"),
        "merge_s": Metric(merge_s, "s", noise="timed", reason=nothing),
        "training_s": Metric(sum(one.training_s for one in adapters), "s", noise="sampled"),
        **{rate_metric(one.task): Metric(one.lr, "1", better="neither") for one in adapters},
    }


def _prove(case: Case, bench: Workbench) -> None:
    """Merge one untrained adapter with nothing, before any is trained. It must answer as before.

    PEFT scales the result of rsLoRA wrongly, and drops what DoRA has beside its matrices: such numbers are not shown.

    Raises:
        UnsupportedError: it answers something else.
    """
    if str(case.method) in bench.shared.setdefault("merges", set()):
        return
    task = case.tasks[0]
    data = task_data_of(bench, task)
    alone = type(case)(case.method, task, case.batch_size).with_variant(seed=case.seed, lr=1e-3)
    subject = job_of(alone, bench, None).subject
    model = disturbed(subject.applied_model(), case.seed, PROOF_NOISE).eval()
    parts = parts_of(model, subject.fresh_model())
    own = OwnAdapter(task, subject, parts, 0.0, 0.0, 0.0)
    found, _ = combined([own], Combination("linear", 1.0), bench)
    batch = without_labels(data.collate(data.train[:8]))
    plain = with_head_of(subject.fresh_model(), parts.head).eval()
    with torch.inference_mode(), subject.precision.forward_context(bench.backend.device):
        without, before, after = (
            one(**batch).to_tuple()[0].float() for one in (plain, model, _fitted(subject, found, parts.head))
        )
    off, effect = (float((other - before).abs().max()) for other in (after, without))
    if not off <= TOLERANCE * effect:
        raise UnsupportedError(
            f"{case.method}: PEFT makes another adapter of one that is merged with nothing (its change of the answers "
            f"is off by {off:.2g} of {effect:.2g})"
        )
    bench.shared["merges"].add(str(case.method))
