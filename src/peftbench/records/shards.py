"""Divides cases into shards, in the same way on every machine, and joins the runs of shards."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from peftbench.errors import UserError
from peftbench.records.joining import join
from peftbench.records.record import Run

NOTE: Final = "shard"
"""Name of the note of a shard: its number, the number of shards, the number of all cases, and its own cases."""


def divide(groups: Sequence[str], parts: int) -> list[list[int]]:
    """Return the cases of each part, as positions in the order of cases.

    The cases of a group share a model, batches and a reference, so that they stay together. The largest group comes
    first, and each group goes to the part with the fewest cases so far. With fewer groups than parts, the cases are cut
    into consecutive parts.

    Args:
        groups: The group of each case, in order.
        parts: Number of parts. Parts without cases are empty.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    if len(members) < parts:
        cuts = [len(groups) * part // parts for part in range(parts + 1)]
        return [list(range(start, end)) for start, end in pairwise(cuts)]
    found: list[list[int]] = [[] for _ in range(parts)]
    for places in sorted(members.values(), key=len, reverse=True):
        min(found, key=len).extend(places)
    return [sorted(places) for places in found]


def own_part(groups: Sequence[str], part: int, parts: int) -> list[int]:
    """Return the cases of one part, counted from 1, as `divide` does, but fast for any number of parts."""
    if len(set(groups)) < parts:
        return list(range(len(groups) * (part - 1) // parts, len(groups) * part // parts))
    return divide(groups, parts)[part - 1]


def join_shards(runs: Mapping[str, Run]) -> tuple[Run, tuple[str, ...]]:
    """Join the shards of a run in their order; return the run, and a text for each missing case or set of shards.

    Args:
        runs: File -> run, in any order. Runs that are no shards come last.

    Raises:
        UserError: the runs differ in settings, fingerprint or number of parts, or a case is in two runs.
    """
    notes: dict[str, dict[str, Any]] = {name: run.notes.get(NOTE) or {} for name, run in runs.items()}
    for kind in ("parts", "cases"):
        found = {note[kind]: name for name, note in notes.items() if note}
        if len(found) > 1:
            (one, first), (other, second), *_ = found.items()
            raise UserError(f"{first} and {second} are not shards of one run: of {one} and of {other} {kind}")
    ordered = sorted(runs, key=lambda name: notes[name].get("part", math.inf))
    whole = join({name: runs[name] for name in ordered})
    whole = replace(whole, notes={name: note for name, note in whole.notes.items() if name != NOTE})
    shards = [note for note in notes.values() if note]
    return whole, tuple(_missing(shards, {record.id for record in whole.records}))


def _missing(shards: Sequence[Mapping[str, Any]], done: Collection[str]) -> Iterator[str]:
    if not shards:
        return
    for shard in shards:
        yield from (f"{case}, of shard {shard['part']}" for case in shard["planned"] if case not in done)
    parts, present = shards[0]["parts"], {shard["part"] for shard in shards}
    elsewhere = shards[0]["cases"] - sum(len(shard["planned"]) for shard in shards)
    if elsewhere > 0:
        yield f"{elsewhere} cases, of shard {_absent(present, parts)} of {parts}"


def _absent(present: Collection[int], parts: int) -> str:
    """Return the parts that are not present, as text: `2, 4-16`."""
    borders = [0, *sorted(present), parts + 1]
    gaps = [(low + 1, high - 1) for low, high in pairwise(borders) if high - low > 1]
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in gaps)
