"""The record of a case and the records of a run, as plain data without torch and pytest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from peftbench.records.ids import CaseId, group_name
from peftbench.records.jsondata import decode, encode

SCHEMA: Final = "peftbench/run/1"
"""Name and version of the run file's format. The version rises when an old reader would misread a file."""

NAMED: Final = 200
"""Most characters of an id that an error shows."""

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
    """Ends of the 95 % interval. With fewer than six values they are the range of the values, which covers less."""
    reason: str = ""
    """Why the value is None."""


@dataclass(frozen=True, slots=True)
class Launch:
    """The measurement of one case by one process. It is the unit of replication."""

    session: str
    """Date and a random word, the same for launches made together."""
    rounds: int
    time_s: float
    """Median time of a round."""
    reference_s: float | None = None
    """Median time of the reference's rounds, which alternate with those of the case."""
    x: float | None = None
    """Median over rounds of ln(time of the case / time of the reference)."""
    anchor_s: float | None = None
    """Median time of the anchor, a fixed block of plain torch against which the reference is gated."""


@dataclass(frozen=True, slots=True)
class KernelTime:
    """How long kernels of one name ran on the device in one round."""

    name: str
    family: str
    """What they are for: `matmul`, `attention`, `elementwise`, `optimizer`, `copy`, `communication` or `other`."""
    calls: int
    time_s: float
    """Summed durations."""


@dataclass(frozen=True, slots=True)
class OperatorShare:
    """How much of the operators' time the calls of one operator took, clocked while they were counted."""

    name: str
    calls: int
    share: float
    """Share of the time of all operators of the round. A counted round is slower than a timed one."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A training at one of its evaluations. Costs are counted from its start, without evaluations."""

    step: int
    examples: int
    time_s: float
    """Time of the steps."""
    quality: float
    """Score by which the training is judged; the mean over several tasks."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """All scores by name. With several tasks, the judged score of each task."""
    loss: float | None = None
    """Mean loss of the steps since the last point."""
    flops: float | None = None
    energy_j: float | None = None


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """A server under one offered load: requests arrive at times that do not wait for answers."""

    offered_per_s: float
    """Requests that arrive in a second."""
    achieved_per_s: float
    """Answers in a second of the window."""
    requests: int
    """Number of requests that arrive within the window."""
    unfinished: int
    """Number of these that were not answered when the window ended. Their latencies are censored."""
    lot_size: float
    """Mean number of requests that were answered together."""
    longest_s: float | None = None
    """Longest latency of an answered request; None if there is none."""
    p50_s: float | None = None
    """Median latency, from arrival to answer; None if it is beyond what the window shows: above `longest_s`."""
    p95_s: float | None = None
    p99_s: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """The result of one case."""

    id: str
    """`train_step[lora-nli-bs8]`, unique within a run of one model."""
    workload: str
    method: str
    """Method with its overrides: `lora(r=16)`."""
    task: str
    batch_size: int
    seq_len: int
    status: Status
    reason: str = ""
    """Why the status is not ok: one line."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    launches: tuple[Launch, ...] = ()
    operators: Mapping[str, int] = field(default_factory=dict)
    """Calls of each operator in one round, by name. They explain a counter that moved."""
    operator_hash: str = ""
    """Hash of the order of the operator calls. It shows a new order when no count has moved."""
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
    """Quality and cost of a training at each evaluation."""
    loads: tuple[LoadPoint, ...] | None = None
    """A server under each offered load, the lowest first; None if none was offered."""
    warnings: tuple[str, ...] = ()
    longest_kernels: tuple[KernelTime, ...] | None = None
    """The ten kernels, copies and sets that took most of the device's time in a round; None if nothing looked."""
    longest_operators: tuple[OperatorShare, ...] | None = None
    """The ten operators that took longest on a CPU; None if nothing looked. They are told, and never compared."""
    timeline: Mapping[str, tuple[float, ...]] | None = None
    """Readings of the GPU while steps ran for the energy window, as series of one length; `t_s` holds their times."""

    @property
    def function(self) -> str:
        """Benchmark function: the test's name with the parameters of its own, `hidden[2]`, without those of the case.

        Cases of one function are compared with each other. What a test varies itself makes them different functions.
        """
        name = CaseId(self.id)
        own = "" if self.variant else name.own_parameters(f"{self.method}-{self.group}")
        return f"{name.function}[{own}]" if own else name.function

    @property
    def group(self) -> str:
        """Task and batch size. Cases of one group are compared with each other."""
        return group_name(self.task, self.batch_size)


@dataclass(frozen=True, slots=True)
class Run:
    """The records of one run, with settings and fingerprint."""

    fingerprint: Mapping[str, str]
    """What must be equal for absolute numbers to be compared: device, driver, threads, versions, ..."""
    settings: Mapping[str, Any]
    """Settings that change measured numbers: model, dtype, seed, attention, ..."""
    records: tuple[Record, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Notes on the whole run, for people: duration, seconds of each pass, load of the machine."""

    def to_json(self) -> dict[str, Any]:
        """Return the run as JSON types, in the form of the published schema."""
        return {
            "schema": SCHEMA,
            "fingerprint": dict(self.fingerprint),
            "settings": dict(self.settings),
            "notes": dict(self.notes),
            "records": [record_to_json(record) for record in self.records],
        }


def differences(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the entries that differ: name -> (old value, new value). A missing value is None."""
    return {name: (base.get(name), new.get(name)) for name in sorted({*base, *new}) if base.get(name) != new.get(name)}


def record_to_json(record: Record) -> dict[str, Any]:
    """Return the record as JSON types."""
    return cast("dict[str, Any]", encode(record))


def record_from_json(data: object, where: str = "") -> Record:
    """Read one record back.

    Raises:
        UserError: a field is missing, unknown or of another type, or a number is not finite; begins with `where`
            and the record's id, and says which.
    """
    name = data.get("id", "?") if isinstance(data, Mapping) else "?"
    return decode(Record, data, f"{where}record {str(name)[:NAMED]}")
