"""The claims of "A Comprehensive Analysis of Adapter Efficiency" (arXiv 2305.07491, abstract) as inequalities."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from peftbench.claims import samples
from peftbench.claims.evidence import Evidence, Sample, distinct, shared_lr
from peftbench.claims.findings import CaseFinding, Claim, DeviceFinding, Finding
from peftbench.claims.intervals import (
    Interval,
    Observation,
    as_observation,
    interval,
    together,
)
from peftbench.config.target import QualityTarget
from peftbench.records.record import Record, Run
from peftbench.studies.training.results import ADDING, CONVERGENCE, MULTITASK, Policy, trainings

CLAIMS: Final = (
    Claim(
        name="few-parameters",
        says="adapters train a minimal number of parameters",
        measured="parameters trained by adapter / by full",
        bound=0.1,
        at_least=False,
        scale="ratio",
        samples=samples.trained_shares,
        trained=False,
    ),
    Claim(
        name="training-time",
        says="adapters are relatively expensive to train",
        measured="seconds of steps to the target, adapter / full",
        bound=1.05,
        at_least=True,
        scale="ratio",
        samples=partial(samples.cost_ratios, what="time_s"),
    ),
    Claim(
        name="training-flops",
        says="adapters are relatively expensive to train",
        measured="FLOPs to the target, adapter / full",
        bound=1.05,
        at_least=True,
        scale="ratio",
        samples=partial(samples.cost_ratios, what="flops"),
    ),
    Claim(
        name="training-energy",
        says="adapters are relatively expensive to train",
        measured="joules to the target, adapter / full",
        bound=1.05,
        at_least=True,
        scale="ratio",
        samples=partial(samples.cost_ratios, what="energy_j"),
    ),
    Claim(
        name="latency-higher",
        says="adapters have higher deployment latency",
        measured="time of inference, adapter / full",
        bound=1.01,
        at_least=True,
        scale="ratio",
        samples=samples.latency_ratios,
        trained=False,
        on_device=samples.busy_ratios,
    ),
    Claim(
        name="latency-slightly",
        says="their deployment latency is only slightly higher",
        measured="time of inference, adapter / full",
        bound=1.25,
        at_least=False,
        scale="ratio",
        samples=samples.latency_ratios,
        trained=False,
        on_device=samples.busy_ratios,
    ),
    Claim(
        name="zero-shot",
        says="nor do adapters pay in cross-lingual zero-shot transfer",
        measured="quality on further test sets, adapter - full",
        bound=0.01,
        at_least=False,
        scale="difference",
        samples=samples.transfer_gaps,
    ),
    Claim(
        name="multitask-quality",
        says="multi-task full fine-tuning reaches what adapters reach",
        measured="quality of a task, multi-task model - adapter",
        bound=-0.01,
        at_least=True,
        scale="difference",
        samples=samples.joint_gaps,
    ),
    Claim(
        name="multitask-time",
        says="multi-task full fine-tuning trains faster than an adapter a task",
        measured="seconds of steps to all targets, multi-task model / adapters",
        bound=0.95,
        at_least=False,
        scale="ratio",
        samples=partial(samples.joint_costs, what="time_s"),
    ),
    Claim(
        name="multitask-flops",
        says="multi-task full fine-tuning trains faster than an adapter a task",
        measured="FLOPs to all targets, multi-task model / adapters",
        bound=0.95,
        at_least=False,
        scale="ratio",
        samples=partial(samples.joint_costs, what="flops"),
    ),
    Claim(
        name="maintainability",
        says="one multi-task model is as little to keep as a backbone with adapters",
        measured="bytes stored for all tasks, multi-task model / backbone and adapters",
        bound=1.05,
        at_least=False,
        scale="ratio",
        samples=samples.joint_sizes,
    ),
    Claim(
        name="extensibility-quality",
        says="a task added to a multi-task model is as good as an adapter for it",
        measured="quality of the new task, added to the multi-task model - adapter",
        bound=-0.01,
        at_least=True,
        scale="difference",
        samples=samples.added_gaps,
    ),
    Claim(
        name="extensibility-forgetting",
        says="and the old tasks keep their quality",
        measured="mean loss of quality of the old tasks",
        bound=0.01,
        at_least=False,
        scale="difference",
        samples=samples.forgetting,
    ),
    Claim(
        name="extensibility-time",
        says="and adding it costs no more than the adapter",
        measured="seconds of steps to the new task's target, added to the multi-task model / adapter",
        bound=1.05,
        at_least=False,
        scale="ratio",
        samples=partial(samples.added_costs, what="time_s"),
    ),
)


def judge(runs: Sequence[Run], target: QualityTarget, claims: Sequence[Claim] = CLAIMS) -> list[Finding]:
    """Return the findings of runs for each claim and each choice of learning rates that the runs allow.

    Raises:
        UserError: the target is higher than any quality can be.
    """
    records, shared = distinct(record for run in runs for record in run.records), shared_lr(runs)
    policies = _policies(records, shared)
    evidence = {policy: Evidence(records, policy, shared, target) for policy in policies}
    return [finding for claim in claims for finding in _findings(claim, evidence)]


def _findings(claim: Claim, evidence: Mapping[Policy, Evidence]) -> list[Finding]:
    """Return one finding for each choice of learning rates; only one if it does not matter or there is no case."""
    if not claim.trained:
        return [_finding(claim, next(iter(evidence.values())), None)]
    found = [_finding(claim, one, policy) for policy, one in evidence.items()]
    return found if any(one.cases for one in found) else [replace(found[0], policy=None)]


def _policies(records: Sequence[Record], shared_lr: float) -> tuple[Policy, ...]:
    found = [one.lr for workload in (CONVERGENCE, MULTITASK, ADDING) for one in trainings(records, workload)]
    return ("shared", "tuned") if any(lr != shared_lr for lr in found) else ("shared",)


def _finding(claim: Claim, evidence: Evidence, policy: Policy | None) -> Finding:
    seen = list(claim.samples(evidence))
    if not seen:
        return Finding(claim, policy, "not shown", None)
    found, cases = _mean(claim, seen), tuple(_case(claim, sample) for sample in seen)
    bound = tuple(samples.host_bound(evidence)) if claim.on_device else ()
    on_device = list(claim.on_device(evidence)) if claim.on_device and bound else []
    busy = _mean(claim, on_device) if on_device else None
    device = DeviceFinding(claim.verdict(busy), busy) if busy else None
    return Finding(claim, policy, claim.verdict(found), found, cases, bound, device)


def _mean(claim: Claim, seen: Sequence[Sample]) -> Interval:
    return _scaled(claim, interval(list(_by_unit(seen)), claim.within))


def _case(claim: Claim, sample: Sample) -> CaseFinding:
    observations = list(sample.observed.values())
    found = _scaled(claim, interval(observations, claim.within))
    censored = sum(bool(one.censored) for one in observations)
    return CaseFinding(sample.case, found, claim.verdict(found), len(observations), censored)


def _by_unit(seen: Sequence[Sample]) -> Iterator[Observation]:
    """Yield the mean over cases for each seed, since observations that share a seed are not independent.

    Only seeds that all cases have are used, since a missing case would shift the mean of its seed. If there is no such
    seed, the mean of the cases' own intervals is yielded.
    """
    common = set.intersection(*(set(sample.observed) for sample in seen))
    if not common:
        yield together(as_observation(list(sample.observed.values())) for sample in seen)
    for unit in sorted(common, key=str):
        yield together(sample.observed[unit] for sample in seen)


def _scaled(claim: Claim, found: Interval) -> Interval:
    if claim.scale == "difference":
        return found
    ends = (found.value, found.low, found.high)
    return Interval(*(math.exp(value) if value < math.inf else math.inf for value in ends))
