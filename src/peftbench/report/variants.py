"""The variant of a case in words. Lengths belong to the title of a block, and the rest to the method of a row."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from peftbench.records.record import Record

LENGTHS: Final[Mapping[str, str]] = MappingProxyType(
    {"prompt": "prompt of {} tokens", "cache": "cache of {} tokens", "new": "{} new tokens"}
)
"""Entry of a variant that is a length -> its words."""
ADAPTER: Final = "adapter"
"""Entry of a variant that is the state of the adapter: its value says all."""


def lengths(record: Record) -> str:
    """Return the length of the sequences of a case: `128 tokens`, or `prompt of 128 tokens, 32 new tokens`."""
    found = [LENGTHS[name].format(value) for name, value in record.variant.items() if name in LENGTHS]
    return ", ".join(found) or f"{record.seq_len} tokens"


def method(record: Record) -> str:
    """Return the method of a case, with what its variant holds beside lengths: `lora merged`."""
    rest = {name: value for name, value in record.variant.items() if name not in LENGTHS}
    return " ".join([record.method, *(str(v) if name == ADAPTER else f"{name} {v}" for name, v in rest.items())])
