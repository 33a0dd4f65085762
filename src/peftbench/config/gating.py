"""The settings of launches, of the gate, and of lock-step comparisons with another state of the code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peftbench.config.options import Question, flag, option
from peftbench.config.parsing import (
    comma_separated,
    waiting,
    whole,
    words,
)


def _constants(text: str) -> tuple[str, ...]:
    from peftbench.gate.constants import Rule  # pytest's start need not wait for it

    Rule.read(text)
    return comma_separated(text)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Settings` has its own: start-up counts
class GateSettings:
    """How often cases run in fresh processes, and what they are compared with."""

    launches: int | None = option(
        None,
        "run each case in N fresh processes, and report medians over them",
        Question.GATE,
        parse=whole(1),
        metavar="N",
        parent=True,
        launches=True,
    )
    launch_timeout: float | None = option(
        None,
        "seconds after which a launch is killed; the other launches go on",
        Question.GATE,
        parse=waiting,
        metavar="SECONDS",
        parent=True,
    )
    record: bool = flag(
        "take as many launches as `peftbench accept` needs (5, or --peftbench-launches)",
        Question.GATE,
        parent=True,
        launches=True,
    )
    gate: bool = flag(
        "compare with the baseline: a regression is a red test and exit status 1",
        Question.GATE,
        parent=True,
        launches=True,
    )
    baseline: Path | None = option(
        None,
        "folder of baselines; default: baselines in pytest's root directory",
        Question.GATE,
        parse=Path,
        metavar="DIR",
    )
    against: str = option(
        "",
        'another state of the code to compare with, in lock-step: a git revision, requirements ("peft==0.20.0"), '
        "or both, separated by spaces",
        Question.GATE,
        parse=words,
        metavar="STATE",
        parent=True,
        launches=True,
    )
    candidate: str = option(
        "",
        "the state to compare with --peftbench-against, instead of this checkout; written in the same way",
        Question.GATE,
        metavar="STATE",
        parent=True,
    )
    bisect: bool = flag(
        "find the first commit or release at which a case is worse than in --peftbench-against",
        Question.GATE,
        parent=True,
    )
    pairs: int = option(
        5, "pairs of processes in lock-step; default: 5", Question.GATE, parse=whole(2), metavar="N", parent=True
    )
    strict: bool = flag(
        "also fail on inconclusive, missing and not comparable cases, and when there is no baseline",
        Question.GATE,
        parent=True,
    )
    gate_rule: tuple[str, ...] = option(
        (),
        "a constant of the gate's rule, such as limit=0.03; may be given several times; `peftbench list rules` "
        "prints all constants",
        Question.GATE,
        parse=_constants,
        metavar="NAME=VALUE",
        repeats=True,
    )
