"""The standing of each method in a run: its costs, summed up over all tasks and batch sizes. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from peftbench.claims.evidence import value
from peftbench.claims.intervals import Interval, Observation, as_observation, together
from peftbench.claims.samples import launch_ratios
from peftbench.records.record import Record
from peftbench.studies.training.results import CONVERGENCE, FULL

TRAINING: Final = "training"
INFERENCE: Final = "inference"
TIMED: Final[Mapping[str, str]] = {"train_step": TRAINING, "inference": INFERENCE}
"""Workload -> name of its time. The time of any other workload has the name of the workload or of its benchmark."""
PLAIN: Final[Mapping[str, str]] = {"merged_inference": "inference"}
"""Workload -> the workload of full fine-tuning with which it is compared, where that is another one."""
SIZED: Final = ("train_step", "inference", CONVERGENCE)
"""Workloads from which memory and sizes are taken: from the first that the run has."""

Place = tuple[str, str, str, int]
"""Workload, benchmark function, group and sequence length of a block."""
Blocks = Mapping[Place, Mapping[str, Record]]
"""The records of each benchmark, task and batch size, by method."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A cost of which each method has one value in each block."""

    name: str
    workload: str
    metric: str
    function: str
    relative: bool = True
    """Whether the value is divided by that of full fine-tuning in the same block."""
    factor: bool = True
    """Whether values are averaged as factors (geometric mean), and not as shares or sizes (arithmetic mean)."""
    higher_is_better: bool = False

    def observed(self, record: Record, full: Record | None) -> Observation | None:
        """Return the value in one block, as a log if it is a factor; None if it is not known."""
        if self.metric == "ratio":
            return _ratio(record, full) if self.relative else _base_ratio(record)
        mine, theirs = value(record, self.metric), value(full, self.metric) if self.relative else 1.0
        if mine is None or not theirs or (self.factor and mine <= 0):
            return None
        return Observation.exactly(math.log(mine / theirs) if self.factor else mine / theirs)

    def shown(self, number: float) -> float:
        """Return a number of the scale of `observed` as a factor, a share or a size."""
        return number if not self.factor or number == math.inf else math.exp(number)


@dataclass(frozen=True, slots=True)
class Summary:
    """One quantity of one method over several blocks."""

    mean: Interval
    """Mean over the blocks, with its 95 % interval."""
    least: float
    most: float
    """Ends of the range of the blocks' values."""
    blocks: int
    """Number of blocks in which it is known."""


@dataclass(frozen=True, slots=True)
class Standings:
    """All methods of a run, with their summaries."""

    reference: str
    """`full` if costs are divided by those of full fine-tuning, else `base`: times are then against the base step."""
    quantities: tuple[Quantity, ...]
    """Quantities that are known, in the order in which they are shown."""
    methods: Mapping[str, Mapping[str, Summary]]
    """Method -> name of a quantity -> summary."""
    cases: Mapping[str, tuple[int, int]]
    """Method -> number of its cases with numbers, and of all of its cases."""
    places: int
    """Number of different tasks and batch sizes."""
    launches: int
    """Largest number of launches of a case."""

    def quantity(self, name: str) -> Quantity | None:
        """Return a quantity by its name, if it is known."""
        return next((one for one in self.quantities if one.name == name), None)

    def complete(self, name: str) -> dict[str, Summary]:
        """Return the summaries of the methods that have a quantity in every block in which any method has it.

        Only these are compared, since a mean over other blocks is another mean.
        """
        found = {method: mine[name] for method, mine in self.methods.items() if name in mine}
        most = max((summary.blocks for summary in found.values()), default=0)
        return {method: summary for method, summary in found.items() if summary.blocks == most}

    def extremes(self, quantity: Quantity) -> tuple[frozenset[str], frozenset[str]]:
        """Return the methods that are best in a quantity, and those that are worst.

        A method belongs to them if its interval overlaps that of the best (or worst) mean. Both sets are empty if they
        have a method in common, since no order is known then.
        """
        found = self.complete(quantity.name)
        if not found:
            return frozenset(), frozenset()
        ordered = sorted(found, key=lambda method: found[method].mean.value)
        low, high = _alike(found, ordered[0]), _alike(found, ordered[-1])
        if low & high:
            return frozenset(), frozenset()
        return (high, low) if quantity.higher_is_better else (low, high)


def standings(records: Iterable[Record]) -> Standings:
    """Return the standing of each method in the records of a run."""
    found = list(records)
    ok = [record for record in found if record.status == "ok"]
    relative = any(record.method == FULL for record in ok)
    blocks = _blocks(ok)
    methods: dict[str, dict[str, Summary]] = {record.method: {} for record in found}
    kept = []
    for quantity in _quantities(ok, relative=relative):
        summaries = {method: _summary(quantity, blocks, method) for method in methods}
        known = {method: summary for method, summary in summaries.items() if summary is not None}
        for method, summary in known.items():
            methods[method][quantity.name] = summary
        kept += [quantity] if known else []
    asked, measured = (Counter(record.method for record in some) for some in (found, ok))
    return Standings(
        reference=FULL if relative else "base",
        quantities=tuple(kept),
        methods=methods,
        cases={method: (measured[method], asked[method]) for method in methods},
        places=len({(record.group, record.seq_len) for record in ok}),
        launches=max((len(record.launches) for record in ok), default=0),
    )


def _quantities(records: Sequence[Record], *, relative: bool) -> list[Quantity]:
    """Return the quantities that the records may have. Without full fine-tuning there is none that needs it."""
    timed = dict.fromkeys((one.workload, one.function) for one in records if value(one, "ratio") and not one.variant)
    first = sorted(timed, key=lambda one: (*TIMED, one[0]).index(one[0]))
    found = [
        Quantity(TIMED.get(workload, workload) if workload == function else function, workload, "ratio", function)
        for workload, function in first
    ]
    if not relative:
        found = [replace(one, relative=False) for one in found]
    return found + [
        one
        for one in (
            _sized(records, "memory", "peak_bytes"),
            _sized(records, "trained", "trainable_body", factor=False),
            _sized(records, "checkpoint", "checkpoint_bytes", relative=False, factor=False),
            _sized(records, "busy", "busy_share", relative=False, factor=False, higher_is_better=True),
            _sized(records, "energy", "energy_j"),
        )
        if one is not None and (relative or not one.relative)
    ]


def _sized(records: Sequence[Record], name: str, metric: str, **how: bool) -> Quantity | None:
    """Return a quantity of the first workload of SIZED that has it."""
    known = {one.workload: one.function for one in reversed(records) if value(one, metric) is not None}
    workload = next((workload for workload in SIZED if workload in known), None)
    return Quantity(name, workload, metric, known[workload], **how) if workload else None


def _blocks(records: Iterable[Record]) -> Blocks:
    """Return the records by block and method. Of several trainings of a method the first stands for all."""
    blocks: dict[Place, dict[str, Record]] = {}
    for record in records:
        place = record.workload, record.function, record.group, record.seq_len
        blocks.setdefault(place, {}).setdefault(record.method, record)
    return blocks


def summarized(quantity: Quantity, records: Iterable[Record]) -> dict[str, Summary]:
    """Return one quantity of each method that has it."""
    blocks = _blocks(record for record in records if record.status == "ok")
    methods = dict.fromkeys(method for block in blocks.values() for method in block)
    found = {method: _summary(quantity, blocks, method) for method in methods}
    return {method: summary for method, summary in found.items() if summary is not None}


def _summary(quantity: Quantity, blocks: Blocks, method: str) -> Summary | None:
    seen = []
    for (workload, function, group, seq_len), block in blocks.items():
        if (workload, function) == (quantity.workload, quantity.function) and method in block:
            plain = PLAIN.get(workload)
            against = blocks.get((plain, plain, group, seq_len), {}) if plain else block
            seen.append(quantity.observed(block[method], against.get(FULL)))
    known = [one for one in seen if one is not None]
    if not known:
        return None
    whole = together(known)  # blocks share launches: their errors need not cancel
    values = [quantity.shown(one.value) for one in known]
    mean = Interval(quantity.shown(whole.value), quantity.shown(whole.low), quantity.shown(whole.high))
    return Summary(mean, min(values), max(values), len(values))


def _ratio(record: Record, full: Record | None) -> Observation | None:
    """Return the log of `x full`: the quotient of the medians, as in the table, with the interval of the launches."""
    if full is record:
        return Observation.exactly(0.0)
    mine, theirs = value(record, "ratio"), value(full, "ratio")
    if full is None or not (mine and theirs):
        return None
    return _around(math.log(mine / theirs), [one for one in launch_ratios(record, full).values() if one is not None])


def _base_ratio(record: Record) -> Observation | None:
    """Return the log of `x base`, with the interval of the launches, or of the rounds of a single launch."""
    metric = record.metrics["ratio"] if value(record, "ratio") else None
    if metric is None or not metric.value:
        return None
    xs = [launch.x for launch in record.launches if launch.x is not None]
    if len(xs) > 1:
        return _around(math.log(metric.value), [Observation(x) for x in xs])
    if not (metric.low and metric.high):
        return Observation(math.log(metric.value))
    return Observation(math.log(metric.value), math.log(metric.low), math.log(metric.high))


def _around(middle: float, seen: Sequence[Observation]) -> Observation:
    whole = as_observation(seen) if seen else Observation(middle)
    return Observation(middle, min(whole.low, middle), max(whole.high, middle))


def _alike(found: Mapping[str, Summary], chosen: str) -> frozenset[str]:
    """Return the methods whose intervals overlap that of the chosen method."""
    mine = found[chosen].mean
    return frozenset(method for method, one in found.items() if one.mean.low <= mine.high and mine.low <= one.mean.high)
