"""The shapes of what settings, notes and variants hold where we read it again: all else in them is free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from peftbench.errors import UserError
from peftbench.records.jsondata import decode

Kind = Any
"""One of the classes below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardNote:
    """Which part of a run its file holds."""

    part: int
    parts: int
    cases: int
    """Of all parts together."""
    planned: tuple[str, ...]
    """Ids of its own cases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownNotes:
    """Of a run's notes."""

    shard: ShardNote | None = None
    duration_s: float = 0.0
    passes_s: Mapping[str, float] | None = None
    resumed: int = 0
    resident_bytes: tuple[float, ...] = ()
    noise: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownSettings:
    """Of a run's settings."""

    target: str = ""
    learning_rates: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownVariant:
    """Of what a training or a deployment varies."""

    seed: int = 0
    lr: float = 0.0
    replay: float = 0.0
    by: str = ""
    n: int = 0


def require(kind: Kind, free: Mapping[str, Any], where: str, *, never_missing: Iterable[str] = ()) -> None:
    """Refuse what is not of the shape in which we wrote it.

    Raises:
        UserError: an entry that `kind` knows has another shape, or is missing; begins with `where`, and says which.
    """
    if missing := sorted(set(never_missing) - free.keys()):
        raise UserError(f"{where}: {missing[0]} is missing")
    names = {field.name for field in fields(kind)}
    decode(kind, {name: value for name, value in free.items() if name in names}, where)
