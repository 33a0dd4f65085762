"""Every tuner of PEFT as a method, with its defaults, its overrides and what it cannot do.

It imports the methods' common base.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from peftbench.methods.peft import lora, prompts, tuners
from peftbench.methods.peft.lora import EXCLUDED_VARIANTS
from peftbench.methods.peft.method import PeftMethod

__all__ = ["EXCLUDED", "EXCLUDED_VARIANTS", "METHODS", "PeftMethod"]

METHODS: Final = (*lora.METHODS, *tuners.METHODS, *prompts.METHODS)

EXCLUDED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ADAPTION_PROMPT": "adapts the attention of LLaMA-like causal language models only",
        "CPT": "causal language models only",
        "MULTITASK_PROMPT_TUNING": "needs the number of the task with every example",
        "POLY": "needs the number of the task with every example",
        "SHADOW": "wraps the layers of decoders, and no gradient reaches what it puts behind the last one",
        "XLORA": "mixes LoRAs that were trained before",
    }
)
"""Tuners of `peft.PeftType` that are not registered -> why."""
