"""Every tuner of PEFT as a method, with its defaults, its overrides and what it cannot do.

It imports the methods' common base.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from peftbench.methods.peft import decoders, lora, prompts, several_tasks, tuners
from peftbench.methods.peft.lora import EXCLUDED_VARIANTS
from peftbench.methods.peft.method import PeftMethod

__all__ = ["EXCLUDED", "EXCLUDED_VARIANTS", "METHODS", "PeftMethod"]

METHODS: Final = (*lora.METHODS, *tuners.METHODS, *prompts.METHODS, *several_tasks.METHODS, *decoders.METHODS)

EXCLUDED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "XLORA": "mixes LoRAs that were trained before",
    }
)
"""Tuners of `peft.PeftType` that are not registered -> why."""
