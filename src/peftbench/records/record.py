"""What one case yielded, and the file that holds a run: plain data, no torch, no pytest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from peftbench.records.ids import CaseId, group_name
from peftbench.records.jsondata import decode, encode

SCHEMA: Final = "peftbench/run/1"
"""Name and version of the run file's format; it rises when a reader of the old one would misread the new one."""

NAMED: Final = 200
"""Characters of an id that an error shows."""

Status = Literal["ok", "unsupported", "out-of-memory", "invalid", "failed"]
Better = Literal["lower", "higher", "neither"]
Noise = Literal["exact", "timed", "sampled"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number, or the reason why there is none."""

    value: float | None
    unit: str
    """`s`, `B`, `J`, `FLOP`, `1` (a count or a ratio), `token/s`, ..."""
    better: Better = "lower"
    noise: Noise = "exact"
    """`exact`: equal from run to run; `timed`: has an interval; `sampled`: read off the machine."""
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval of the value, where it has one; of fewer than six values the range: it covers less."""
    reason: str = ""
    """Why the value is None."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What one process measured of one case: the unit of replication."""

    session: str
    """Date and a random word, the same for launches made together."""
    rounds: int
    time_s: float
    """Median time of a round."""
    reference_s: float | None = None
    """Median time of the reference's rounds, taken in alternation."""
    x: float | None = None
    """Median over rounds of ln(time of the case / time of the reference)."""
    anchor_s: float | None = None
    """Median time of a fixed plain-torch block, against which the reference itself is gated."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A training at one of its evaluations; costs are counted from its start, evaluations left out."""

    step: int
    examples: int
    time_s: float
    """Of the steps."""
    quality: float
    """The score that the training is judged by; of several tasks, the mean of theirs."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """All scores by name; of several tasks, the judged one of each."""
    loss: float | None = None
    """Mean over the steps since the last point."""
    flops: float | None = None
    energy_j: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What one case yielded."""

    id: str
    """`train_step[lora-nli-bs8]`, unique within a run of one model."""
    workload: str
    method: str
    """With its overrides: `lora(r=16)`."""
    task: str
    batch_size: int
    seq_len: int
    status: Status
    reason: str = ""
    """Why the status is not ok: one line."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    launches: tuple[Launch, ...] = ()
    operators: Mapping[str, int] = field(default_factory=dict)
    """Calls of each operator in one round, by name: tells what moved when a counter moves."""
    operator_hash: str = ""
    """Hash of the order of the operator calls: tells that they moved where no count did."""
    modules: Mapping[str, int] = field(default_factory=dict)
    """Trainable parameters by module (layer numbers replaced by *)."""
    passes_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds that each pass took: build, validity, counters, memory, time, and `rounds`, the timed part of time."""
    stop: str = ""
    """What ended the rounds: `precision`, `budget` or `rounds`."""
    quantiles_s: tuple[float, ...] = ()
    """0, 5, 25, 50, 75, 95 and 100 % of the rounds' times."""
    variant: Mapping[str, Any] = field(default_factory=dict)
    """What a study varies beside method, task and batch size: `seed`, `lr`, ..."""
    curve: tuple[CurvePoint, ...] = ()
    """How a training went."""
    warnings: tuple[str, ...] = ()

    @property
    def function(self) -> str:
        """Name of the benchmark function: what stands before the parameters of the test's name."""
        return CaseId(self.id).function

    @property
    def group(self) -> str:
        """Task and batch size: cases of one group are compared with each other."""
        return group_name(self.task, self.batch_size)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run yielded."""

    fingerprint: Mapping[str, str]
    """What must be equal for absolute numbers to be compared: device, driver, threads, versions, ..."""
    settings: Mapping[str, Any]
    """What was asked for, as far as it changes a number: model, dtype, seed, attention, ..."""
    records: tuple[Record, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    """About the run as a whole, for people: duration, share of timed rounds, load of the machine."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON types only, in the form of the published schema."""
        return {
            "schema": SCHEMA,
            "fingerprint": dict(self.fingerprint),
            "settings": dict(self.settings),
            "notes": dict(self.notes),
            "records": [record_to_json(record) for record in self.records],
        }


def differences(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs: name -> (base, new), None where one does not have it."""
    return {name: (base.get(name), new.get(name)) for name in sorted({*base, *new}) if base.get(name) != new.get(name)}


def record_to_json(record: Record) -> dict[str, Any]:
    """Return JSON types only."""
    return cast("dict[str, Any]", encode(record))


def record_from_json(data: object, where: str = "") -> Record:
    """Read one record back.

    Raises:
        UserError: a field is missing, unknown or of another type, or a number is not finite; begins with `where`
            and the record's id, and says which.
    """
    name = data.get("id", "?") if isinstance(data, Mapping) else "?"
    return decode(Record, data, f"{where}record {str(name)[:NAMED]}")
