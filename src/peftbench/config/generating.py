"""The settings of generation: how long prompts, caches and answers are."""

from __future__ import annotations

from dataclasses import dataclass

from peftbench.config.options import Question, option
from peftbench.config.parsing import MOST, each, whole


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Settings` has its own: start-up counts
class GenerationSettings:
    """The lengths with which the workloads prefill, decode and generate are measured. Each length is a case."""

    prompt_tokens: tuple[int, ...] = option(
        (128,),
        "tokens of each prompt of the workloads prefill and generate, comma-separated; default: 128",
        Question.WHAT,
        parse=each(whole(1, MOST)),
        metavar="LIST",
    )
    cache_tokens: tuple[int, ...] = option(
        (128,),
        "tokens in the cache before the token that the workload decode computes, comma-separated; default: 128",
        Question.WHAT,
        parse=each(whole(1, MOST)),
        metavar="LIST",
    )
    new_tokens: tuple[int, ...] = option(
        (32,),
        "tokens that the workload generate adds to each prompt, comma-separated; default: 32",
        Question.WHAT,
        parse=each(whole(1, MOST)),
        metavar="LIST",
    )
