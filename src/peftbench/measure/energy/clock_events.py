"""The reasons why the clock of a GPU is below its maximum, as NVML encodes them."""

from __future__ import annotations

from typing import Final

CLOCK_EVENTS: Final = {
    0x001: "idle",
    0x002: "application clocks",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "thermal slowdown (software)",
    0x040: "thermal slowdown (hardware)",
    0x080: "power brake (hardware)",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability limit",
}
"""Bit of NVML's clock event reasons -> why the clock is below its maximum."""


def clock_event_names(bits: int) -> frozenset[str]:
    """Return the names of the clock events that are on. An unknown bit is named by its number."""
    known = {name for bit, name in CLOCK_EVENTS.items() if bits & bit}
    unknown_bits = bits & ~sum(CLOCK_EVENTS)
    return frozenset(known | ({f"0x{unknown_bits:x}"} if unknown_bits else set()))
