"""What the gate knows of a set of cases: of a run, or of the runs that were accepted as a baseline."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from peftbench.records.ids import CaseId, group_name
from peftbench.records.jsondata import encode
from peftbench.records.record import Record, Run, Status

if TYPE_CHECKING:
    from peftbench.gate.lines import RecordLine

CLOCK: Final = "sm_clock_mhz"
"""The metric that tells it."""
MAX_LOGARITHM: Final = 100.0
"""Of ratios of times: 1e43 to one."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a round is made of: tells what moved when a counter moves. Many cases share one."""

    operators: Mapping[str, int] = field(default_factory=dict)
    """Calls of each operator in one round, by name."""
    operator_hash: str = ""
    """Of the order of the calls."""
    modules: Mapping[str, int] = field(default_factory=dict)
    """Trainable parameters by module."""


@dataclass(frozen=True, slots=True)
class CaseSnapshot:
    """One case, as far as the gate looks."""

    x: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By session, of each launch: median over rounds of ln(time of the case / time of the reference)."""
    rounds: int = 0
    """Median over launches."""
    time_s: float | None = None
    """Median over launches, of the median time of a round: for people, never compared."""
    counters: Mapping[str, float] = field(default_factory=dict)
    """The metrics that are equal from run to run, and better when lower."""
    profile: Profile = field(default_factory=Profile)
    status: Status = "ok"
    reason: str = ""
    clock_mhz: float | None = None
    """Of a GPU's multiprocessors after the rounds; where it is another one, times are not compared."""


@dataclass(frozen=True, slots=True)
class Session:
    """Launches made together."""

    name: str
    shift: float = 0.0
    """What all cases together had moved by, in log units, against the sessions accepted before; taken off again."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Who wants to know why a baseline is what it is reads this."""

    date: str
    commit: str
    cases: int
    """How many were accepted."""
    why: str
    keyword: str = ""
    """The expression that selected them, where not all were."""
    append: bool = False
    """Whether their launches were added to the old ones, instead of taking their place."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the gate knows of a set of cases."""

    fingerprint: Mapping[str, str]
    settings: Mapping[str, Any]
    cases: Mapping[str, CaseSnapshot]
    """By id."""
    references: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    """By function and group of cases, and by session, of each launch: ln(time of the reference / of the anchor)."""
    sessions: Mapping[str, Session] = field(default_factory=dict)
    """By the name that `x` and `references` use."""
    accepted: tuple[Acceptance, ...] = ()
    """Oldest first; none of a run."""

    def select(self, matches: Callable[[str], bool]) -> Snapshot:
        """Return the snapshot of the cases whose id matches."""
        return replace(self, cases={name: case for name, case in self.cases.items() if matches(name)})

    def launches(self, case_id: str) -> list[float]:
        """Return x of each launch of a case, with what its session moved all cases by taken off."""
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
        ValueError: two records share an id, or a number is not finite or no time; names the record.
    """
    profiles: dict[object, Profile] = {}
    cases: dict[str, CaseSnapshot] = {}
    anchored: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.id in cases:
            raise ValueError(record.id)
        try:
            cases[record.id] = _case(record, profiles)
        except OverflowError as error:  # a sum of whole numbers that no float can hold
            raise ValueError(record.id) from error
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
        counters={
            name: metric.value
            for name, metric in record.metrics.items()
            if metric.value is not None and metric.noise == "exact" and metric.better == "lower"
        },
        profile=_shared_profile(record, profiles),
        status=record.status,
        reason=record.reason,
        clock_mhz=clock.value if clock else None,
    )
    if not math.isfinite(
        sum(chain(*x.values(), case.counters.values()), (case.time_s or 0.0) + (case.clock_mhz or 0.0))
    ):
        raise ValueError(record.id)
    if not are_logarithms(x):
        raise ValueError(record.id)
    return case


def are_logarithms(values: Mapping[str, Sequence[float]]) -> bool:
    """Tell whether numbers can be logarithms of ratios of times: far enough from what `exp` can hold."""
    return all(not row or -MAX_LOGARITHM <= min(row) <= max(row) <= MAX_LOGARITHM for row in values.values())


def _shared_profile(record: Record | RecordLine, profiles: dict[object, Profile]) -> Profile:
    key = (record.operator_hash, tuple(record.operators.items()), tuple(record.modules.items()))
    if key not in profiles:
        profiles[key] = Profile(record.operators, record.operator_hash, record.modules)
    return profiles[key]


def _reference(record: Record | RecordLine) -> str:
    """Return what the reference of a case is called.

    Functions can share the name of a workload and not be the same. Where they are called alike it stands once.
    """
    function = CaseId(record.id).function
    alike = function in (record.workload, record.id)  # the id itself: it has no parameters
    name = record.workload if alike else f"{function} {record.workload}"
    return f"{name} {group_name(record.task, record.batch_size)}-len{record.seq_len}"


def _add_references(sessions: dict[str, list[list[float]]], record: Record | RecordLine) -> None:
    """Add the reference's times to those that other cases of its group saw in the same launches."""
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
