"""Protocols: named sets of settings, those of a published comparison. Each setting can still be given another value."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PROTOCOLS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        # PEFT's method_comparison/MetaMathQA: default_training_params.json and run.py.
        "peft-metamathqa": MappingProxyType(
            {
                "tasks": "sft",
                "batch_sizes": "4",
                "seq_len": "768",
                "dtype": "bfloat16",
                "seeds": "1",
                "steps": "5000",
                "eval_every": "250",
                "stop": "budget",
                "learning_rates": "1e-4",
                "weight_decay": "0.1",
                "schedule": "cosine",
                "warm_up": "10%",
                "clip": "1",
                "group_by_length": "true",
                "metric": "exact_match",
                "answers": "last-number",
                "answer_tokens": "300",
            }
        ),
        # arXiv 2305.07491 and its code.
        "adapter-efficiency": MappingProxyType(
            {
                "batch_sizes": "32",
                "dtype": "float16",
                "autocast": "true",
                "pad_to_length": "true",
                "seeds": "1",
                "epochs": "50",
                "stop": "patience",
                "patience": "3",
                "learning_rates": "3e-5",
                "weight_decay": "0.1",
                "schedule": "linear",
                "warm_up": "2000",
                "multitask_epochs": "10",
                "multitask_weight_decay": "0.01",
                "multitask_warm_up": "10000",
            }
        ),
    }
)
"""Name -> setting -> value as text. It counts where the user gives none."""
