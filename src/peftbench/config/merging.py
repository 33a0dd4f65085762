"""The settings of merging: how the adapters of several tasks become one."""

from __future__ import annotations

from dataclasses import dataclass

from peftbench.config.choices import COMBINATIONS
from peftbench.config.options import Question, option
from peftbench.config.parsing import above_zero, each, one_of


def _share(text: str) -> float:
    value = above_zero(text)
    if value > 1:
        raise ValueError("must be above 0, and at most 1")
    return value


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Settings` has its own: start-up counts
class MergingSettings:
    """How PEFT combines the adapters of several tasks. Each combination is a case."""

    merge: tuple[str, ...] = option(
        ("linear", "cat", "svd", "ties", "dare_linear"),
        f"PEFT's combinations that merge adapters: {', '.join(COMBINATIONS)}; default: linear,cat,svd,ties,dare_linear",
        Question.STUDIES,
        parse=each(one_of(*COMBINATIONS)),
        metavar="LIST",
    )
    merge_weight: float | None = option(
        None,
        "weight of each adapter in a merge; default: one over their number",
        Question.STUDIES,
        parse=above_zero,
        metavar="WEIGHT",
        studies=True,
        added=True,
    )
    merge_density: float = option(
        0.5,
        "share of the weights that ties, dare and magnitude_prune keep; default: 0.5",
        Question.STUDIES,
        parse=_share,
        metavar="SHARE",
        studies=True,
        added=True,
    )
