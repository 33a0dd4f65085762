"""Models: presets built from a configuration, local folders and hub ids."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Preset:
    """An architecture that is built from a configuration, with seeded random weights."""

    name: str
    summary: str


PRESETS: tuple[Preset, ...] = ()
