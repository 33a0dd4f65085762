"""The observations for each claim: functions of the evidence, each of which returns one sample for each case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from peftbench.claims.evidence import Evidence, Sample, is_adapter, value
from peftbench.claims.intervals import Observation, added_up, log_ratio
from peftbench.records.conditions import is_host_bound
from peftbench.studies.training.results import ADDING, FULL, MTL
from peftbench.studies.training.stopping import cost

if TYPE_CHECKING:
    from peftbench.records.record import Record
    from peftbench.studies.training.results import Training


Samples = Iterator[Sample]


class _Found:
    """Gathers observations by case. A missing observation (None) is left out."""

    def __init__(self) -> None:
        self._observed: dict[tuple[str, str], dict[object, Observation]] = {}

    def add(self, method: str, where: str, unit: object, observation: Observation | None) -> None:
        if observation is not None:
            self._observed.setdefault((method, where), {})[unit] = observation

    def samples(self) -> Samples:
        return (Sample(*case, observed) for case, observed in self._observed.items())


def cost_ratios(evidence: Evidence, *, what: str, of: Callable[[str], bool] = is_adapter) -> Samples:
    """Return the cost to quality of each method over that of full fine-tuning with the same seed, as logs.

    Args:
        evidence: The records.
        what: The field of a `CurvePoint` that holds the cost.
        of: Tells whether a method is wanted.
    """
    found = _Found()
    for one in evidence.singles(of):
        full = evidence.single(FULL, one.group, one.seed)
        ratio = log_ratio(evidence.cost(one, what), evidence.cost(full, what))
        found.add(one.method, one.group, one.seed, ratio)
    return found.samples()


def trained_shares(evidence: Evidence) -> Samples:
    """Return the trained parameters of each adapter over those of full fine-tuning, without heads, as logs."""
    found = _Found()
    for record in evidence.records:
        mine, theirs = value(record, "trainable_body"), value(evidence.twin(record, FULL), "trainable_body")
        if is_adapter(record.method) and mine and theirs:
            found.add(record.method, record.task, "", Observation.exactly(math.log(mine / theirs)))
    return found.samples()


def latency_ratios(evidence: Evidence) -> Samples:
    """Return the time of inference with each adapter over that of the plain fine-tuned model, as logs."""
    found = _Found()
    for record in filter(lambda record: is_adapter(record.method), evidence.records):
        if record.workload == "inference":
            for launch, ratio in launch_ratios(record, evidence.twin(record, FULL)).items():
                found.add(record.method, record.group, launch, ratio)
        elif record.workload == "deployment" and record.variant.get("by") == _served_alike(record):
            full = evidence.twin(record, FULL, by="models")
            ratio = _quotient(record, full, "uniform_p50_s")
            found.add(record.method, f"{record.group}, {record.variant['n']} tasks served", "", ratio)
    return found.samples()


def busy_ratios(evidence: Evidence) -> Samples:
    """Return the busy time of the device in an inference with each adapter over that of the plain model, as logs."""
    found = _Found()
    for record in _inferences(evidence):
        found.add(record.method, record.group, "", _quotient(record, evidence.twin(record, FULL), "busy_s"))
    return found.samples()


def host_bound(evidence: Evidence) -> list[str]:
    """Return the names of the cases of `latency_ratios` in which the host set the time of one side or both."""
    pairs = [(record, evidence.twin(record, FULL)) for record in _inferences(evidence)]
    return [
        f"{record.method} {record.group}"
        for record, full in pairs
        if full is not None and (is_host_bound(record) or is_host_bound(full))
    ]


def merged_ratios(evidence: Evidence) -> Samples:
    """Return the time of inference with each adapter merged over that of the plain fine-tuned model, as logs."""
    found = _Found()
    for record in evidence.records:
        if record.workload == "merged_inference" and is_adapter(record.method):
            plain = evidence.twin(replace(record, workload="inference"), FULL)
            for launch, ratio in launch_ratios(record, plain).items():
                found.add(record.method, record.group, launch, ratio)
    return found.samples()


def transfer_gaps(evidence: Evidence) -> Samples:
    """Return the quality of each adapter on each test set minus that of full fine-tuning with the same seed."""
    found = _Found()
    for one in evidence.adapters():
        full = evidence.single(FULL, one.group, one.seed)
        for name in filter(lambda name: name.startswith("quality@"), one.record.metrics):
            gap = _difference(value(one.record, name), value(full.record if full else None, name))
            found.add(one.method, f"{one.group} on {name.removeprefix('quality@')}", one.seed, gap)
    return found.samples()


def joint_gaps(evidence: Evidence) -> Samples:
    """Return the quality of a multi-task model on each task minus that of each adapter with the same seed."""
    found = _Found()
    for joint in evidence.joint():
        for method in evidence.adapter_methods():
            for task, group in joint.groups.items():
                alone = evidence.single(method, group, joint.training.seed)
                gap = _difference(value(joint.training.record, f"quality@{task}"), alone.quality if alone else None)
                found.add(MTL, f"against {method}, {group}", joint.training.seed, gap)
    return found.samples()


def joint_costs(evidence: Evidence, *, what: str) -> Samples:
    """Return the cost to quality of a multi-task model over the summed costs of one adapter for each task, as logs."""
    found = _Found()
    for joint in evidence.joint():
        training = joint.training
        goals = {task: goal for task, group in joint.groups.items() if (goal := evidence.goal(group)) is not None}
        if len(goals) < len(joint.groups):
            continue
        mine = cost(training.curve, goals, what)
        for method in evidence.adapter_methods():
            alone = [evidence.single(method, group, training.seed) for group in joint.groups.values()]
            theirs = added_up(evidence.cost(one, what) for one in alone)
            found.add(MTL, f"against {method}, {training.group}", training.seed, log_ratio(mine, theirs))
    return found.samples()


def joint_sizes(evidence: Evidence) -> Samples:
    """Return the bytes of a multi-task model over those of one full model and one adapter for each task, as logs."""
    found = _Found()
    for joint in evidence.joint():
        seed, groups = joint.training.seed, list(joint.groups.values())
        mine, backbone = value(joint.training.record, "checkpoint_bytes"), evidence.size(FULL, groups[0], seed)
        for method in evidence.adapter_methods():
            alone = [one.record for group in groups if (one := evidence.single(method, group, seed))]
            added = evidence.added_bytes(alone) if len(alone) == len(groups) else None
            if mine and backbone and added:
                ratio = math.log(mine / (backbone + added))
                found.add(MTL, f"against {method}, {joint.training.group}", "", Observation.exactly(ratio))
    return found.samples()


def added_gaps(evidence: Evidence) -> Samples:
    """Return the quality of a task that was added to `mtl` minus that of each adapter for it, with the same seed."""
    found = _Found()
    for case, added, alone in _added(evidence):
        found.add(MTL, case, added.seed, Observation(added.quality - alone.quality))
    return found.samples()


def added_costs(evidence: Evidence, *, what: str) -> Samples:
    """Return the cost to quality of adding a task to `mtl` over that of training an adapter for it, as logs."""
    found = _Found()
    for case, added, alone in _added(evidence):
        goal = evidence.goal(alone.group)
        mine = None if goal is None else cost(added.curve, goal, what)
        found.add(MTL, case, added.seed, log_ratio(mine, evidence.cost(alone, what)))
    return found.samples()


def forgetting(evidence: Evidence) -> Samples:
    """Return the mean loss of quality of the old tasks when one is added."""
    found = _Found()
    for joint in evidence.joint(ADDING):
        lost = value(joint.training.record, "forgetting")
        found.add(MTL, joint.addition, joint.training.seed, None if lost is None else Observation(lost))
    return found.samples()


def _added(evidence: Evidence) -> Iterator[tuple[str, Training, Training]]:
    """Yield the case's name, the training that adds a task to `mtl`, and that of an adapter with the same seed."""
    for joint in evidence.joint(ADDING):
        *_, group = joint.groups.values()
        for method in evidence.adapter_methods():
            alone = evidence.single(method, group, joint.training.seed)
            if alone:
                yield f"{joint.addition}, against {method}", joint.training, alone


def _served_alike(record: Record) -> str:
    """Return the way to serve adapters that is compared with full models.

    It is request by request for single requests, and task by task for lots.
    """
    return "switch" if record.batch_size == 1 else "grouped"


def _inferences(evidence: Evidence) -> list[Record]:
    return [one for one in evidence.records if one.workload == "inference" and is_adapter(one.method)]


def launch_ratios(record: Record, full: Record | None) -> Mapping[int, Observation | None]:
    """Return the log of the cost over that of full fine-tuning, for each launch.

    A single launch has the interval of its rounds.
    """
    pairs = [
        (mine.x, theirs.x)
        for mine, theirs in zip(record.launches, full.launches if full else (), strict=False)
        if mine.x is not None and theirs.x is not None
    ]
    if len(pairs) > 1:
        return {number: Observation(mine - theirs) for number, (mine, theirs) in enumerate(pairs)}
    return {0: _quotient(record, full, "ratio")}


def _quotient(record: Record, full: Record | None, name: str) -> Observation | None:
    """Return the log of a metric over that of another record. Its interval spans the extremes of both intervals."""
    mine, theirs = record.metrics.get(name), full.metrics.get(name) if full else None
    if not (mine and theirs and mine.value and theirs.value):
        return None
    ratio = math.log(mine.value / theirs.value)
    low, high = _log_quotient(mine.low, theirs.high), _log_quotient(mine.high, theirs.low)
    return Observation(ratio) if low is None or high is None else Observation(ratio, low, high)


def _log_quotient(mine: float | None, theirs: float | None) -> float | None:
    return math.log(mine / theirs) if mine and theirs else None


def _difference(mine: float | None, theirs: float | None) -> Observation | None:
    return None if mine is None or theirs is None else Observation(mine - theirs)
