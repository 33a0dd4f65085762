"""A recommendation: the methods of a run, ranked by one objective, with the reason for each rank."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, Literal

from peftbench.claims import samples
from peftbench.claims.evidence import Evidence, base_name, distinct, shared_lr, value
from peftbench.claims.intervals import Observation, as_observation, together
from peftbench.config.target import QualityTarget
from peftbench.records.record import Record, Run
from peftbench.studies.training.results import CONVERGENCE, FULL, MTL

Objective = Literal["cost-to-quality", "latency", "storage"]
NEEDS: Final[Mapping[Objective, str]] = {
    "cost-to-quality": "trainings of full fine-tuning and of the methods, from bench_convergence.py",
    "latency": "the workload inference of full fine-tuning and of the methods",
    "storage": "any workload of full fine-tuning and of the methods",
}
"""Objective -> what the runs must hold for it."""
OBJECTIVES: Final[tuple[Objective, ...]] = ("cost-to-quality", "latency", "storage")
UNITS: Final = {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
FEW: Final = 2
"""Most groups whose missed targets are named."""
UNTRAINED: Final = "no training says whether it reaches the target"
"""What is said of a method without trainings on one task, where others have them."""
TRAINING: Final = (CONVERGENCE, "train_step")
"""Workloads whose memory metrics are those of a training."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A method, its score for the objective, and the reason for its rank."""

    method: str
    score: float | None
    """Lower is better. Cost and latency are relative to full fine-tuning; storage is in bytes. None: not known."""
    low: float
    high: float
    memory_bytes: float | None
    reason: str
    fits: bool
    reached: bool | None
    """Whether each training of the method reached the target; None if no training says so."""
    bound: Literal["", "above", "below"] = ""
    """Side of `score` on which the true value lies if a target was missed, by the method or by full fine-tuning."""


@dataclass(frozen=True, slots=True)
class _Scored:
    score: Observation | None
    reason: str
    reached: bool | None = True


def parse_bytes(text: str) -> float:
    """Return the bytes of `16GiB`, `800MB` or a plain number.

    Raises:
        ArgumentTypeError: the text is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?B|B|)", text.strip().upper())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 16GiB, 800MB or a number of bytes")
    return float(found[1]) * UNITS[found[2]]


def recommend(
    runs: Sequence[Run],
    objective: Objective,
    *,
    target: QualityTarget,
    memory_bytes: float | None = None,
    tasks: int = 8,
) -> list[Choice]:
    """Return the methods in order of their score.

    Whatever the objective is, methods that missed the target in a training come after all others, and those of which
    no training says whether they reach it after those that do. Methods that do not fit into memory come last.

    Args:
        runs: Runs of one model.
        objective: The quantity that should be low.
        target: The quality to which costs are compared.
        memory_bytes: Memory that a training may take; None: no limit.
        tasks: Number of tasks that are stored.
    """
    evidence = Evidence(distinct(record for run in runs for record in run.records), "tuned", shared_lr(runs), target)
    scored = SCORING[objective](evidence, tasks)
    if objective != "cost-to-quality":
        scored = _with_quality(scored, evidence)
    choices = [_choice(method, found, evidence.records, memory_bytes) for method, found in scored.items()]
    return sorted(choices, key=_rank)


def _rank(choice: Choice) -> tuple[bool, int, float]:
    quality = (True, None, False).index(choice.reached)
    return not choice.fits, quality, math.inf if choice.score is None else choice.score


def _choice(method: str, found: _Scored, records: Sequence[Record], limit: float | None) -> Choice:
    needs = _memory(method, records)
    reason, fits = found.reason, True
    if limit is not None and needs is None:
        reason += "; its memory was not measured"
    elif limit is not None and needs is not None and needs > limit:
        reason, fits = f"needs {needs / 2**30:.2f} GiB to train, more than {limit / 2**30:.2f} GiB", False
    score = found.score
    if score is None or score.censored == "both":
        return Choice(method, None, -math.inf, math.inf, needs, reason, fits, reached=found.reached)
    return Choice(method, score.value, score.low, score.high, needs, reason, fits, found.reached, score.censored)


def _memory(method: str, records: Sequence[Record]) -> float | None:
    """Return the largest memory of the method's trainings: reserved bytes of the device, or else `peak_bytes`."""
    needs = [
        value(record, "peak_reserved_bytes") or value(record, "peak_bytes")
        for record in records
        if record.method == method and record.workload in TRAINING
    ]
    return max(filter(None, needs), default=None)


def _by_cost(evidence: Evidence, tasks: int) -> dict[str, _Scored]:
    """Score methods by seconds of steps to the target over those of full fine-tuning, the mean over tasks.

    A method that missed the target has no score but a lower bound, or none where full fine-tuning missed it, too.
    """
    del tasks
    ratios = _relative(samples.cost_ratios(evidence, what="time_s", of=lambda method: method != FULL))
    goals = "seconds of steps to the target, against full"
    lost = {method: _missed(evidence, method) for method in {one.method for one in evidence.singles()}}
    if FULL not in lost:
        return {}
    scored = {}
    for method, missed in sorted(lost.items()):
        seen = ratios.get(method)
        if method == FULL:
            reason = missed or f"the reference of all others: {goals}"
            scored[method] = _Scored(None if missed else Observation.exactly(1.0), reason, not missed)
        elif missed:
            scored[method] = _Scored(
                _factor(seen) if seen and seen.censored == "above" else None, missed, reached=False
            )
        elif seen is not None:
            reason = f"{math.exp(seen.value):.2f} times the {goals}"
            if seen.censored:
                reason = f"at most {reason}, which missed it in a training"
            scored[method] = _Scored(_factor(seen), reason)
    return scored


def _with_quality(scored: Mapping[str, _Scored], evidence: Evidence) -> dict[str, _Scored]:
    """Return scores of an objective that knows no quality, with what the trainings say about the target.

    Where nothing was trained towards a target, methods are ranked by the objective alone.
    """
    judged = {one.method for one in evidence.singles() if evidence.goal(one.group) is not None}
    found = {}
    for method, one in scored.items():
        missed = _missed(evidence, method, "the target") if method in judged else UNTRAINED if judged else ""
        reached = not missed if method in judged else None
        found[method] = _Scored(one.score, "; ".join(filter(None, [one.reason, missed])), reached)
    return found


def _missed(evidence: Evidence, method: str, target: str = "it") -> str:
    """Return in how many trainings a method missed the target, and by how much; '' if it reached it in all."""
    mine = [one for one in evidence.singles(lambda name: name == method) if evidence.goal(one.group) is not None]
    costs = [(one, evidence.cost(one, "time_s")) for one in mine]
    lost = [one for one, cost in costs if cost is not None and cost.censored]
    if not lost:
        return ""
    groups = list(dict.fromkeys(one.group for one in lost))
    parts = [_short_of([one.quality for one in lost if one.group == group], evidence.goal(group)) for group in groups]
    if len({one.group for one in mine}) > 1:
        parts = [f"{part} on {group}" for part, group in zip(parts, groups, strict=True)]
    more = f" and {len(parts) - FEW} more" if len(parts) > FEW else ""
    where = (
        f"never reached {target}"
        if len(lost) == len(mine)
        else f"missed {target} in {len(lost)} of {len(mine)} trainings"
    )
    return f"{where}: quality {', '.join(parts[:FEW])}{more}"


def _short_of(qualities: Sequence[float], goal: float | None) -> str:
    """Return mean quality and goal, with the digits that tell them apart: `0.54 of 0.64`."""
    quality, wanted = fmean(qualities), goal or 0.0
    digits = next((n for n in (2, 3, 4) if f"{quality:.{n}f}" != f"{wanted:.{n}f}"), 6)
    return f"{quality:.{digits}f} of {wanted:.{digits}f}"


def _by_latency(evidence: Evidence, tasks: int) -> dict[str, _Scored]:
    """Score methods by time of an inference over that of the plain model, merged if that was measured and is faster."""
    del tasks
    scored = {
        method: _Scored(_factor(seen), f"{math.exp(seen.value):.2f} times the latency of the plain model")
        for method, seen in _relative(samples.latency_ratios(evidence)).items()
    }
    for method, seen in _relative(samples.merged_ratios(evidence)).items():
        active = scored[method].score if method in scored else None
        if active is None or math.exp(seen.value) < active.value:
            scored[method] = _Scored(_factor(seen), f"{math.exp(seen.value):.2f} times the plain model's, once merged")
    if scored and any(record.method == FULL for record in evidence.records):
        scored[FULL] = _Scored(Observation.exactly(1.0), "the plain model")
    return scored


def _by_storage(evidence: Evidence, tasks: int) -> dict[str, _Scored]:
    """Score methods by the bytes of `tasks` tasks: full models, or one backbone and one checkpoint for each task."""
    largest: dict[str, tuple[float, Record]] = {}
    for record in evidence.records:
        size = value(record, "checkpoint_bytes")
        if size and size > largest.get(record.method, (0.0,))[0]:
            largest[record.method] = size, record
    if FULL not in largest:
        return {}
    backbone, _ = largest[FULL]
    scored = {}
    for method, (size, record) in largest.items():
        mixed = evidence.mixed_bytes(record)
        if mixed is None:
            continue
        if method == FULL:
            total, how = tasks * backbone, f"{tasks} full models"
        elif base_name(method) == MTL:
            total, how = size, "one model with one head for each task, as measured"
        else:
            total, how = backbone + mixed + tasks * size, f"one backbone and {tasks} checkpoints of {size:,.0f} bytes"
            how += f", and the adapters that they mix, {mixed:,.0f} bytes" if mixed else ""
        scored[method] = _Scored(Observation.exactly(total), f"{total / 1e6:,.1f} MB: {how}")
    return scored


SCORING: Final[Mapping[Objective, Callable[[Evidence, int], dict[str, _Scored]]]] = {
    "cost-to-quality": _by_cost,
    "latency": _by_latency,
    "storage": _by_storage,
}


def _relative(found: samples.Samples) -> dict[str, Observation]:
    """Return the mean log ratio over the cases of each method, by method."""
    cases: dict[str, list[Observation]] = {}
    for sample in found:
        cases.setdefault(sample.method, []).append(as_observation(list(sample.observed.values())))
    return {method: together(seen) for method, seen in cases.items()}


def _factor(seen: Observation) -> Observation:
    low, high = math.exp(seen.low), math.exp(seen.high) if seen.high < math.inf else math.inf
    return Observation(math.exp(seen.value), low, high, seen.censored)
