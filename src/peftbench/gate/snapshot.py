"""Snapshots: a run, or a baseline, reduced to what the gate compares."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec

from peftbench.gate.meaning import without_totals
from peftbench.records.conditions import is_shared
from peftbench.records.ids import CaseId, group_name
from peftbench.records.jsondata import encode
from peftbench.records.record import Record, Run, Status

if TYPE_CHECKING:
    from peftbench.gate.lines import RecordLine

CLOCK: Final = "sm_clock_mhz"
"""Name of the metric that holds the clock of a GPU."""
MAX_LOGARITHM: Final = 100.0
"""Largest logarithm of a ratio of times. It stands for 1e43 to one."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a round consists of, to explain a counter that moved. Many cases share one profile."""

    operators: Mapping[str, int] = field(default_factory=dict)
    """Calls of each operator in one round, by name."""
    operator_hash: str = ""
    """Hash of the order of the calls."""
    modules: Mapping[str, int] = field(default_factory=dict)
    """Trainable parameters by module."""


class CaseSnapshot(msgspec.Struct, frozen=True, gc=False):
    """What the gate compares of one case. There may be 100,000, and a Struct is made more quickly than a dataclass."""

    x: Mapping[str, tuple[float, ...]] = msgspec.field(default_factory=dict)
    """Session -> x of each launch, which is the median over rounds of ln(time of the case / time of the reference)."""
    rounds: int = 0
    """Number of rounds of a launch, median over launches."""
    time_s: float | None = None
    """Median time of a round in seconds, median over launches. It is shown, and never compared."""
    counters: Mapping[str, float] = msgspec.field(default_factory=dict)
    """Metrics that are equal from run to run and better when lower."""
    profile: Profile = msgspec.field(default_factory=Profile)
    status: Status = "ok"
    reason: str = ""
    clock_mhz: float | None = None
    """Clock of the GPU's multiprocessors after the rounds. Times at different clocks are not compared."""
    shared: bool = False
    """Whether something else used the GPU or the core. Such a time is neither compared nor accepted into a baseline."""


@dataclass(frozen=True, slots=True)
class Session:
    """Launches made together."""

    name: str
    shift: float = 0.0
    """Common shift of all cases against the sessions accepted before, in log units. `launches` subtracts it."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One acceptance, for whoever asks why a baseline is as it is."""

    date: str
    commit: str
    cases: int
    """Number of cases that were accepted."""
    why: str
    keyword: str = ""
    """The -k expression that selected the cases; empty if all were accepted."""
    append: bool = False
    """Whether the launches were added to those of the baseline, instead of replacing them."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the gate knows of a set of cases: a run or a baseline."""

    fingerprint: Mapping[str, str]
    settings: Mapping[str, Any]
    cases: Mapping[str, CaseSnapshot]
    """Case id -> case."""
    references: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    """Function and group of cases -> session -> ln(time of the reference / time of the anchor) of each launch."""
    sessions: Mapping[str, Session] = field(default_factory=dict)
    """Name of a session in `x` and `references` -> session."""
    accepted: tuple[Acceptance, ...] = ()
    """Acceptances, oldest first. A run has none."""

    def select(self, matches: Callable[[str], bool]) -> Snapshot:
        """Return the snapshot of the cases whose id matches."""
        return replace(self, cases={name: case for name, case in self.cases.items() if matches(name)})

    def launches(self, case_id: str) -> list[float]:
        """Return x of each launch of a case, minus the shift of its session."""
        launches: list[float] = []
        for name, values in self.cases[case_id].x.items():
            shift = self.sessions[name].shift
            launches += [value - shift for value in values] if shift else values
        return launches


def snapshot_of(run: Run) -> Snapshot:
    """Return what the gate knows of a run."""
    return collect(run.fingerprint, encode(run.settings), run.records)


def collect(
    fingerprint: Mapping[str, str], settings: Mapping[str, Any], records: Iterable[Record | RecordLine]
) -> Snapshot:
    """Return what the gate knows of records.

    Raises:
        ValueError: two records share an id, or a number is not finite or impossible; names the record.
    """
    profiles: dict[object, Profile] = {}
    cases: dict[str, CaseSnapshot] = {}
    anchored: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.id in cases:
            raise ValueError(record.id)
        try:
            cases[record.id] = _case(record, profiles)
        except OverflowError as error:  # a sum of whole numbers that is too large for a float
            raise ValueError(record.id) from error
        if not cases[record.id].shared:  # it slowed reference and anchor as well, by different shares
            _add_references(anchored[_reference(record)], record)
    references = {
        group: {session: tuple(map(median, launches)) for session, launches in sessions.items()}
        for group, sessions in anchored.items()
        if sessions
    }
    named = chain.from_iterable((*(case.x for case in cases.values()), *references.values()))
    return Snapshot(fingerprint, settings, cases, references, {name: Session(name) for name in named})


def _case(record: Record | RecordLine, profiles: dict[object, Profile]) -> CaseSnapshot:
    launches = record.launches
    x: dict[str, tuple[float, ...]] = {}
    for launch in launches:
        if launch.x is not None:
            x[launch.session] = (*x.get(launch.session, ()), launch.x)
    clock = record.metrics.get(CLOCK)
    case = CaseSnapshot(
        x=x,
        rounds=round(median([launch.rounds for launch in launches])) if launches else 0,
        time_s=median([launch.time_s for launch in launches]) if launches else None,
        counters=without_totals(
            {
                name: metric.value
                for name, metric in record.metrics.items()
                if metric.value is not None and metric.noise == "exact" and metric.better == "lower"
            }
        ),
        profile=_shared_profile(record, profiles),
        status=record.status,
        reason=record.reason,
        clock_mhz=clock.value if clock else None,
        shared=is_shared(record.warnings),
    )
    if not math.isfinite(
        sum(chain(*x.values(), case.counters.values()), (case.time_s or 0.0) + (case.clock_mhz or 0.0))
    ):
        raise ValueError(record.id)
    if not are_logarithms(x):
        raise ValueError(record.id)
    return case


def are_logarithms(values: Mapping[str, Sequence[float]]) -> bool:
    """Tell whether numbers can be logarithms of ratios of times, so that `exp` does not overflow."""
    return all(not row or -MAX_LOGARITHM <= min(row) <= max(row) <= MAX_LOGARITHM for row in values.values())


def _shared_profile(record: Record | RecordLine, profiles: dict[object, Profile]) -> Profile:
    key = (record.operator_hash, tuple(record.operators.items()), tuple(record.modules.items()))
    if key not in profiles:
        profiles[key] = Profile(record.operators, record.operator_hash, record.modules)
    return profiles[key]


def _reference(record: Record | RecordLine) -> str:
    """Return the name of the reference of a case.

    It has the function as well as the workload, because two functions can use one workload. Equal names stand once.
    """
    function = CaseId(record.id).function
    alike = function in (record.workload, record.id)  # an id without parameters is its own function
    name = record.workload if alike else f"{function} {record.workload}"
    return f"{name} {group_name(record.task, record.batch_size)}-len{record.seq_len}"


def _add_references(sessions: dict[str, list[list[float]]], record: Record | RecordLine) -> None:
    """Add a record's times of its reference to those of its group, launch by launch."""
    seen: dict[str, int] = defaultdict(int)
    for launch in record.launches:
        if launch.reference_s and launch.anchor_s:
            if min(launch.reference_s, launch.anchor_s) < 0:
                raise ValueError(record.id)
            x = math.log(launch.reference_s) - math.log(launch.anchor_s)
            if abs(x) > MAX_LOGARITHM:
                raise ValueError(record.id)
            launches, place = sessions[launch.session], seen[launch.session]
            seen[launch.session] += 1
            if place == len(launches):
                launches.append([])
            launches[place].append(x)
