"""Writes and reads the text of a baseline file.

The text is made to be read in a diff: entries are sorted, each case has one line, and numbers are rounded.

    "cases": {
    "train_step[lora-nli-bs8]":{"x":{"1":[2103,2099,2110]},"n":40,"ms":12.4,"c":[995,1234567],"p":"3f9a2c1b"},

`x` holds the launches of each session in 1e-4 log units. `n` is the number of rounds, and `ms` a time for people. `c`
holds the counters in the order of "counters". `p` names the line of "profiles" with operator calls and modules. `mhz`
is the clock of a GPU. `baseline.schema.json` describes every field.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import msgspec

from peftbench.errors import UserError
from peftbench.gate.lines import NOT_AS_WRITTEN, CaseLine, require_each_name_once
from peftbench.gate.snapshot import Acceptance, CaseSnapshot, Profile, Session, Snapshot, are_logarithms
from peftbench.records.fileio import parse_json
from peftbench.records.jsondata import MAX_TEXT, Json, decode, encode
from peftbench.records.known import settings_of_today
from peftbench.records.versions import Migration, bring_up_to_date

SCHEMA: Final = "peftbench/baseline/2"
"""Name and version of the format. The version rises, with a migration, when an old reader would misread a file."""


def _with_sums(data: dict[str, Any]) -> dict[str, Any]:
    """Return a baseline of version 1 unchanged.

    Version 1 holds the bytes of a checkpoint as a sum, which stays and is compared as a sum. Version 2 holds its parts,
    `checkpoint_tensor_bytes` and `checkpoint_other_bytes`; the next run that is accepted brings them. A reader of
    version 1 would report that the sum is not measured any more.
    """
    return data


MIGRATIONS: Final[Mapping[int, Migration]] = {1: _with_sums}
"""Version -> the function that turns a file of it into one of the next version."""

UNIT: Final = 1e-4
"""Unit in which logarithms of ratios are written: 0.01 %."""


@dataclass(frozen=True, slots=True)
class _SessionLine:
    name: str
    shift: int


@dataclass(frozen=True, slots=True)
class _File:
    fingerprint: Mapping[str, str]
    settings: Mapping[str, Any]
    counters: tuple[str, ...]
    sessions: Mapping[str, _SessionLine]
    cases: Mapping[str, CaseLine]
    references: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    accepted: tuple[Acceptance, ...] = ()


def to_text(baseline: Snapshot) -> str:
    """Return the text of a baseline file.

    Raises:
        UserError: a number is not finite, or a setting has no JSON form.
    """
    counters = sorted({name for case in baseline.cases.values() for name in case.counters})
    profiles = {id(case.profile): _sorted(case.profile) for case in baseline.cases.values()}
    keys = {identity: _key(profile) for identity, profile in profiles.items()}
    sessions = sorted(baseline.sessions.items(), key=lambda item: (len(item[0]), item[0]))  # so that 2 comes before 10
    parts = {
        "schema": _line(SCHEMA),
        "fingerprint": _object(sorted(baseline.fingerprint.items())),
        "settings": _object(sorted(baseline.settings.items())),
        "counters": _line(counters),
        "sessions": _object((key, _session(item)) for key, item in sessions),
        "cases": _object((name, _case(case, counters, keys)) for name, case in sorted(baseline.cases.items())),
        "references": _object((name, _by_session(logs)) for name, logs in sorted(baseline.references.items())),
        "profiles": _object(sorted({key: profiles[identity] for identity, key in keys.items()}.items())),
        "accepted": _block("[", map(_line, map(encode, baseline.accepted)), "]"),
    }
    return _whole(parts)


def _whole(parts: Mapping[str, str]) -> str:
    lines = [piece for name, text in parts.items() for piece in (",\n", f'"{name}": ', text)]
    return "".join(["{\n", *lines[1:], "\n}\n"])  # one copy of the long texts


def _line(value: object) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError) as error:
        raise UserError(f"baseline not written: {str(value)[:60]} has no JSON form: {error}") from error


def _object(items: Iterable[tuple[str, object]]) -> str:
    return _block("{", (f"{_line(name)}:{_line(value)}" for name, value in items), "}")


def _block(start: str, lines: Iterable[str], end: str) -> str:
    text = ",\n".join(lines)
    return f"{start}\n{text}\n{end}" if text else start + end


def _session(session: Session) -> Json:
    return {"name": session.name, "shift": round(session.shift / UNIT)}


def _by_session(values: Mapping[str, tuple[float, ...]]) -> Json:
    if not all(map(math.isfinite, chain.from_iterable(values.values()))):
        raise UserError("baseline not written: the logarithm of a launch's ratio is not a finite number")
    return {name: [round(value / UNIT) for value in launches] for name, launches in values.items()}


def _case(case: CaseSnapshot, counters: list[str], profiles: Mapping[int, str]) -> Json:
    return {
        "x": _by_session(case.x),
        "n": case.rounds,
        "ms": None if case.time_s is None else float(f"{case.time_s * 1e3:.4g}"),
        "c": [case.counters.get(name) for name in counters],
        "p": profiles[id(case.profile)],
        **({} if case.clock_mhz is None else {"mhz": round(case.clock_mhz)}),
    }


def _sorted(profile: Profile) -> Json:
    return {
        name: dict(sorted(part.items())) if isinstance(part, dict) else part for name, part in encode(profile).items()
    }


def _key(profile: Json) -> str:
    return hashlib.sha256(_line(profile).encode()).hexdigest()[:8]


def from_text(text: str, source: str) -> Snapshot:
    """Return the baseline in a text; raises UserError, which says where the text is wrong and what to do."""
    data = _quick(text, source)
    if data is not None:
        return _snapshot(data, source)
    what_to_do = f"restore it (git checkout {source}), or delete it and accept a run"
    return from_json(parse_json(text, source=source, what_to_do=what_to_do), source)


def _quick(text: str, source: str) -> Json | None:
    """Return the JSON content of a baseline, with its cases as `CaseLine`; None if anything is wrong."""
    try:
        parts = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if not _is_as_written(text, parts):
            return None  # for example, a part that stands twice
        cases_text = parts.pop("cases")
        cases = msgspec.json.decode(cases_text, type=dict[str, CaseLine])
        if max(map(len, cases), default=0) > MAX_TEXT:  # their other texts name parts, which are read below
            return None
        require_each_name_once(cases_text, cases)
        rest = {name: parse_json(bytes(part).decode(), source=source) for name, part in parts.items()}
    except NOT_AS_WRITTEN:
        return None
    return rest | {"cases": cases}


def _is_as_written(text: str, parts: Mapping[str, msgspec.Raw]) -> bool:
    """Tell whether a text is what `_whole` makes of its parts. The long parts are not copied."""
    at, before = 0, "{\n"
    for name, part in parts.items():
        start = f'{before}"{name}": '
        if not text.startswith(start, at):
            return False
        at += len(start) + memoryview(part).nbytes
        before = ",\n"
    return text.isascii() and text[at:] == "\n}\n"


def from_json(data: Json, source: str) -> Snapshot:
    """Return the baseline in JSON data.

    Raises:
        UserError: the data have another form, version or kind; names `source`, the case and the field.
    """
    found = _snapshot(data, source)
    for name, case in found.cases.items():  # the types of the quick reader check this
        if not are_logarithms(case.x):
            raise UserError(f"{source}: case {name}: the logarithm of a launch's ratio is out of range")
    return found


def _snapshot(data: Json, source: str) -> Snapshot:
    file = decode(_File, bring_up_to_date(data, SCHEMA, MIGRATIONS, source), source)
    known = _Logarithms()
    cases = {name: _read_case(name, line, file, source, known) for name, line in file.cases.items()}
    for name, logs in file.references.items():
        if strange := logs.keys() - file.sessions.keys():
            raise UserError(f"{source}: reference {name}: its session {min(strange)!r} is not among the sessions")
        if not are_logarithms(_logarithms(logs)):
            raise UserError(f"{source}: reference {name}: a logarithm is out of range")
    if not are_logarithms(_logarithms({key: (line.shift,) for key, line in file.sessions.items()})):
        raise UserError(f"{source}: sessions: a shift is out of range")
    return Snapshot(
        fingerprint=file.fingerprint,
        settings=settings_of_today(file.settings),
        cases=cases,
        references={name: _logarithms(logs) for name, logs in file.references.items()},
        sessions={key: Session(line.name, line.shift * UNIT) for key, line in file.sessions.items()},
        accepted=file.accepted,
    )


class _Logarithms(dict[int, float]):
    """The logarithm of each whole number of units that was met: many cases share few of them, and so their memory."""

    def __missing__(self, units: int) -> float:
        value = self[units] = units * UNIT
        return value

    def of(self, values: Mapping[str, Sequence[int]]) -> dict[str, tuple[float, ...]]:
        """Return the logarithms of a case, session by session."""
        one = self.__getitem__
        return {session: tuple(map(one, launches)) for session, launches in values.items()}


def _read_case(name: str, line: CaseLine, file: _File, source: str, known: _Logarithms) -> CaseSnapshot:
    problem = ""
    if not line.x.keys() <= file.sessions.keys():
        problem = f"its session {min(line.x.keys() - file.sessions.keys())!r} is not among the sessions"
    elif len(line.c) != len(file.counters):
        problem = f"has {len(line.c)} counters, and {len(file.counters)} are named"
    elif line.p not in file.profiles:
        problem = f"its profile {line.p!r} is not among the profiles"
    if problem:
        raise UserError(f"{source}: case {name}: {problem}")
    counters: dict[str, Any] = dict(zip(file.counters, line.c, strict=True))
    if None in line.c:
        counters = {counter: value for counter, value in counters.items() if value is not None}
    time_s = line.ms and line.ms / 1e3
    return CaseSnapshot(known.of(line.x), line.n, time_s, counters, file.profiles[line.p], clock_mhz=line.mhz)


def _logarithms(values: Mapping[str, Sequence[int]]) -> dict[str, tuple[float, ...]]:
    return _Logarithms().of(values)
