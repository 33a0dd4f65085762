"""The types of those entries of settings, notes and variants that peftbench reads again. Other entries are free."""

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
    """The part of a run that a file holds."""

    part: int
    parts: int
    cases: int
    """Number of cases of all parts."""
    planned: tuple[str, ...]
    """Ids of the cases of this part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownNotes:
    """Entries of a run's notes."""

    shard: ShardNote | None = None
    duration_s: float = 0.0
    passes_s: Mapping[str, float] | None = None
    resumed: int = 0
    resident_bytes: tuple[float, ...] = ()
    noise: Mapping[str, float] | None = None
    commit: str = ""
    """Commit that was measured, after the last tag before it; `-dirty` follows if anything differed from it."""
    committed: str = ""
    """When the commit was made, as ISO 8601."""
    measured: str = ""
    """When the run ended, as ISO 8601."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownSettings:
    """Entries of a run's settings."""

    target: str = ""
    learning_rates: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownVariant:
    """Entries of the variant of a training or a deployment."""

    seed: int = 0
    lr: float = 0.0
    replay: float = 0.0
    by: str = ""
    n: int = 0


def settings_of_today(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of a file with the names of this version. Up to version 0.4.0 `execution` was `compile`."""
    if "compile" not in settings:
        return settings
    rest = {name: value for name, value in settings.items() if name != "compile"}
    return {"execution": "compile" if settings["compile"] else "eager", **rest}


def settings_of_old(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return settings as version 0.4.0 wrote them, if it knew such; the opposite of `settings_of_today`.

    Names of files hold a hash of the settings. It stays the same for settings that existed then.
    """
    if settings.get("execution") not in ("eager", "compile"):
        return settings
    rest = {name: value for name, value in settings.items() if name != "execution"}
    return {"compile": settings["execution"] == "compile", **rest}


def require(kind: Kind, free: Mapping[str, Any], where: str, *, never_missing: Iterable[str] = ()) -> None:
    """Refuse entries of another type than we write.

    Args:
        kind: Class with the known entries.
        free: The entries.
        where: What errors begin with.
        never_missing: Names of entries that must be there.

    Raises:
        UserError: an entry that `kind` knows has another type, or is missing; names it.
    """
    if missing := sorted(set(never_missing) - free.keys()):
        raise UserError(f"{where}: {missing[0]} is missing")
    names = {field.name for field in fields(kind)}
    decode(kind, {name: value for name, value in free.items() if name in names}, where)
