"""PEFT's tuners for several tasks at once. A case has one task, and so have they: its number is 0."""

from __future__ import annotations

from typing import Final

from peftbench.methods.peft.method import PeftMethod
from peftbench.methods.peft.prompts import LONGER_INPUT, NO_TASK_TYPE, PROMPT_TOKENS
from peftbench.methods.peft.targets import token_shape

METHODS: Final = (
    PeftMethod(
        name="poly",
        family="peft",
        tuner="POLY",
        summary="LoRAs that a router of the task mixes, here of one task",
        source="peft.PolyConfig, arXiv 2202.13914",
        defaults={"r": 8, "n_tasks": 1},
        refuses=NO_TASK_TYPE,
        asks_task=True,
        mergeable=False,
        needs_task_type=True,
    ),
    PeftMethod(
        name="multitask-prompt-tuning",
        family="peft",
        tuner="MULTITASK_PROMPT_TUNING",
        summary="trained token embeddings before the input, times a low-rank term of the task, here of one task",
        source="peft.MultitaskPromptTuningConfig, arXiv 2303.02861",
        targets=token_shape,
        refuses=LONGER_INPUT,
        defaults={"num_virtual_tokens": PROMPT_TOKENS, "num_tasks": 1},
        asks_task=True,
        ranks=(),
        mergeable=False,
        needs_task_type=True,
        resumes=False,
    ),
)
