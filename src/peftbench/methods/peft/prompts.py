"""PEFT's prompt learning: trained tokens, or trained keys and values, before the input."""

from __future__ import annotations

from functools import partial
from typing import Final

from peftbench.methods.peft.method import PeftMethod
from peftbench.methods.peft.targets import key_value_prefix, token_shape
from peftbench.tasks.base import Head

NO_TASK_TYPE: Final = {Head.MULTIPLE_CHOICE: "PEFT has no task type for multiple choice"}
_NO_PROMPT: Final = {Head.MULTIPLE_CHOICE: "PEFT has no task type for multiple choice, which prompt learning needs"}
LONGER_INPUT: Final = {
    **_NO_PROMPT,
    Head.TOKEN_CLASSIFICATION: "PEFT lengthens the input by the prompt, but not the labels of the tokens",
    Head.QUESTION_ANSWERING: "PEFT lengthens the input by the prompt, but does not shift the answer's positions",
}
PROMPT_TOKENS: Final = 20
PREFIX_TOKENS: Final = 30


_prompt = partial(PeftMethod, family="peft", ranks=(), mergeable=False, needs_task_type=True, resumes=False)

METHODS: Final = (
    _prompt(
        name="prompt-tuning",
        tuner="PROMPT_TUNING",
        summary="trained token embeddings before the input",
        source="peft.PromptTuningConfig, arXiv 2104.08691",
        targets=token_shape,
        refuses=LONGER_INPUT,
        defaults={"num_virtual_tokens": PROMPT_TOKENS},
    ),
    _prompt(
        name="p-tuning",
        tuner="P_TUNING",
        summary="token embeddings before the input, made by a trained MLP",
        source="peft.PromptEncoderConfig, arXiv 2103.10385",
        targets=token_shape,
        refuses=LONGER_INPUT,
        defaults={"num_virtual_tokens": PROMPT_TOKENS},
    ),
    _prompt(
        name="prefix-peft",
        tuner="PREFIX_TUNING",
        summary="PEFT's prefix tuning: keys and values before the input, made by an MLP; shifts positions",
        source="peft.PrefixTuningConfig, arXiv 2101.00190",
        targets=key_value_prefix,
        refuses=_NO_PROMPT,
        defaults={"num_virtual_tokens": PREFIX_TOKENS, "prefix_projection": True, "encoder_hidden_size": 512},
    ),
    _prompt(
        name="cartridge",
        tuner="CARTRIDGE",
        summary="keys and values before the input, trained themselves; shifts positions",
        source="peft.CartridgeConfig, arXiv 2506.06266",
        targets=key_value_prefix,
        refuses=_NO_PROMPT,
        defaults={"num_virtual_tokens": PREFIX_TOKENS},
    ),
)
