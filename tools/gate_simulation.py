"""What the gate's rule promises, by simulation: false alarms, power, launches, and the time of a clean suite.

    python tools/gate_simulation.py --suites=200

Prints the tables of docs/evidence/gate-simulated.md: suspects launched again seven times at once, one launch after the
other until they are cleared, or until the launches left would hardly tell; the first of these
without siblings; and (as the gate does)
until they are certainly slower. Then what that certainty costs: the rate of false alarms of cases that are slower by
just the tolerance, none of them cleared. The statistics are the gate's own; only the launches are made up.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from peftbench.gate.pairs import pair_shifts
from peftbench.gate.rule import Rule
from peftbench.gate.stages import Looks, certain, pending
from peftbench.gate.statistics import (
    Moments,
    Shifts,
    moments,
    ragged_moments,
    shifts,
    slower,
    staged_shift,
)

Array = NDArray[Any]
RULE: Final = Rule()
SESSIONS: Final = 4
SLOWED: Final = 20
"""One case in so many is slower."""
START_S: Final = 7.5
CASE_S: Final = 2.2
"""What a launch takes: its start, and each case (--peftbench-max-time=2)."""
AIM: Final = 1.2
"""Time of a clean gate over that of its first launches, at most."""
LATER: Final = 0.25
"""Drift between the first launches and the later ones, over that between sessions."""


def launches(
    kinds: Array, spreads: Sequence[float], drift: float, slow: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return the launches of a baseline and ten new ones, in log units; heavy tails, and spreads of their own."""
    cases = len(kinds)
    own = np.array(spreads)[kinds, None] * np.exp(rng.normal(0, 0.3, (cases, 1)))

    def session(count: int) -> Array:
        moved = rng.normal(0, drift) + rng.normal(0, drift / 7, (cases, 1))
        return moved + own * rng.standard_t(5, (cases, count)) / math.sqrt(5 / 3)

    base = [session(RULE.session_launches) for _ in range(SESSIONS)]
    centred = [part - np.median(part.mean(-1) - base[0].mean(-1)) for part in base]
    slowed = np.where(np.arange(cases) % SLOWED == SLOWED - 1, math.log1p(slow), 0.0)
    new = session(RULE.all_launches) + slowed[:, None]
    new[:, RULE.launches :] += rng.normal(0, LATER * drift)
    return np.concatenate(centred, axis=-1), new


@dataclass(frozen=True)
class Way:
    """How suspects are launched again."""

    name: str
    looks: Sequence[int]
    """After how many launches suspects are looked at."""
    rule: Rule = RULE


LATE: Final = replace(RULE, early_alpha=0.0)
TOGETHER: Final = replace(LATE, launches_alone=0)
ONE_BY_ONE: Final = [*range(RULE.launches + 1, RULE.all_launches + 1)]
AS_THE_GATE: Final = Way("one by one, hopeless ones given up, two alone, certain ones called", ONE_BY_ONE)
WAYS: Final = (
    Way("all at once", [RULE.all_launches], TOGETHER),
    Way("one by one", ONE_BY_ONE, replace(TOGETHER, futility=0.0)),
    Way("one by one, hopeless ones given up", ONE_BY_ONE, TOGETHER),
    Way("one by one, hopeless ones given up, two alone", ONE_BY_ONE, LATE),
    AS_THE_GATE,
)
PAIRS: Final = 5
"""In lock-step: of all cases first, and up to twice as many more of suspects."""
SLOWER: Final = (0.03, 0.05, 0.10)


def gate(base: Array, new: Array, way: Way, kinds: Array | None) -> tuple[Array, Array, float]:
    """Return which cases fail, the launches made of each, and the time over that of the first launches.

    Args:
        base: The accepted launches, (cases, launches).
        new: Launches that can be made, (cases, 10).
        way: How suspects are launched again.
        kinds: Cases of one kind share a prior spread; None: all do.
    """
    accepted, rule = moments(base), way.rule

    def judged(made: list[list[float]]) -> Shifts:
        now = ragged_moments(made)
        return shifts(accepted, now, staged_shift(accepted, now, made, rule, kinds), rule, kinds)

    made = [row[: rule.launches] for row in new.tolist()]
    found = judged(made)
    doubtful = pending(found, rule)
    siblings = np.flatnonzero(~doubtful)[: rule.siblings]
    first_s = rule.launches * (START_S + CASE_S * len(new))
    more_s = 0.0
    for before, after in zip([rule.launches, *way.looks], way.looks, strict=False):
        if not doubtful.any():
            break
        beside = siblings if before >= rule.launches + rule.launches_alone else siblings[:0]
        again = sorted({*np.flatnonzero(doubtful).tolist(), *beside.tolist()})
        for case in again:
            made[case] += new[case, before:after].tolist()
        more_s += (after - before) * (START_S + CASE_S * len(again))
        found = judged(made)
        doubtful &= pending(found, rule)
    return slower(found, rule), found.new_count, 1 + more_s / first_s


def row(cases: int, spreads: Sequence[float], drift: float, way: Way, *, prior: str, suites: int) -> str:
    """Return what comes of so many suites, clean and with slower cases."""
    rng = np.random.default_rng(0)
    kinds = (np.arange(cases) + np.arange(cases) // SLOWED) % len(spreads)  # slower cases are of each
    shared = kinds if prior == "kind" else None
    clean = [gate(*launches(kinds, spreads, drift, 0.0, rng), way, shared) for _ in range(suites)]
    alarms = sum(bool(failed.any()) for failed, _, _ in clean)
    made = np.mean([count.mean() for _, count, _ in clean])
    times = np.array([taken for _, _, taken in clean])
    power = []
    for slow in SLOWER:
        runs = [gate(*launches(kinds, spreads, drift, slow, rng), way, shared) for _ in range(suites)]
        found = np.mean([failed[SLOWED - 1 :: SLOWED] for failed, _, _ in runs])
        power.append(f"{found:.1%}, {np.mean([taken for _, _, taken in runs]):.2f}")
    spread = " and ".join(f"{part:.1%}" for part in spreads)
    return (
        f"| {spread} | {drift:.0%} | {cases} | {prior} | {way.name} | {alarms} of {suites} | {made:.2f} "
        f"| {times.mean():.2f} | {(times <= AIM).mean():.0%} | {' | '.join(power)} |"
    )


def false_share(base_launches: int, prior: str, suites: int) -> str:
    """Return a row: how often p is below 0.001 in each of two kinds of cases that have not moved at all."""
    rule, rng, spreads = replace(RULE, tolerance=0.0), np.random.default_rng(0), (0.008, 0.02)
    kinds = np.arange(24) % len(spreads)

    def made(count: int) -> Moments:
        drawn = rng.standard_t(5, (suites, len(kinds), count)) / math.sqrt(5 / 3)
        return moments(np.array(spreads)[kinds, None] * drawn)

    shared = kinds if prior == "kind" else None
    found = shifts(made(base_launches), made(rule.all_launches), np.zeros(1), rule, shared)
    low = found.p_slower < 0.001  # noqa: PLR2004 - the level that is asked about
    shares = " | ".join(f"{low[:, kinds == kind].mean():.2%}" for kind in range(len(spreads)))
    return f"| {base_launches} | {prior} | {shares} |"


def early_row(base_launches: int, noise: str, early_alpha: float, suites: int) -> str:
    """Return a row: how often cases are called slower at any look, and how many launches that takes.

    Args:
        base_launches: Of the baseline; 0: pairs of processes in lock-step, which have none.
        noise: Of the launches: normal, or t with 5 degrees of freedom.
        early_alpha: The rule's.
        suites: Of 24 cases each.
    """
    rule, rng = replace(RULE, early_alpha=early_alpha), np.random.default_rng(0)
    looks = Looks.of(rule) if base_launches else Looks(PAIRS, 3 * PAIRS)

    def drawn(count: int) -> Array:
        shape = (suites, 24, count)
        unit = rng.standard_normal(shape) if noise == "normal" else rng.standard_t(5, shape) / math.sqrt(5 / 3)
        spread: Array = 0.015 * unit
        return spread

    def judged(accepted: Moments | None, new: Array) -> Shifts:
        if accepted is None:
            return pair_shifts(new.reshape(-1, new.shape[-1]), rule)
        return shifts(accepted, moments(new), np.zeros(1), rule)

    cells = []
    for slow in (rule.tolerance, *SLOWER):
        accepted = moments(drawn(base_launches)) if base_launches else None
        new = drawn(looks.last) + math.log1p(slow)
        made, called = np.full(new.shape[:-1], looks.last).reshape(-1), np.zeros(new.shape[:-1], dtype=bool).reshape(-1)
        for count in range(looks.first, looks.last):
            sure = certain(judged(accepted, new[..., :count]), rule, looks).reshape(-1) & ~called
            made[sure], called = count, called | sure
        called |= slower(judged(accepted, new), rule).reshape(-1)
        cells.append(f"{called.mean():.2%}" if slow == rule.tolerance else f"{called.mean():.1%}, {made.mean():.2f}")
    compared = f"{base_launches} launches" if base_launches else "lock-step"
    return f"| {compared} | {noise} | {early_alpha:.0%} | {' | '.join(cells)} |"


def suites_table(suites: int) -> Iterator[str]:
    """Yield the lines of the table of ways to launch suspects again."""
    yield "| spread | drift | cases | prior by | suspects again | false alarms | launches a case | time "
    yield f"| at most {AIM} | 3 % found, time | 5 % found, time | 10 % found, time |\n" + "| --- " * 12 + "|\n"
    for (spread, drift), cases, way in product(((0.01, 0.0), (0.01, 0.02), (0.02, 0.02)), (24, 100), WAYS):
        yield row(cases, [spread], drift, way, prior="kind", suites=suites) + "\n"
    for cases, prior in product((24, 100), ("suite", "kind")):
        yield row(cases, [0.007, 0.02], 0.01, AS_THE_GATE, prior=prior, suites=suites) + "\n"


def prior_table(suites: int) -> Iterator[str]:
    """Yield the lines of the table of what p holds with one prior spread for all, and with one a kind."""
    yield "\n| launches of the baseline | prior by | p < 0.001, spread 0.8 % | spread 2 % |\n" + "| --- " * 4 + "|\n"
    for count, prior in product((5, 20), ("suite", "kind")):
        yield false_share(count, prior, 200 * suites) + "\n"


def early_table(suites: int) -> Iterator[str]:
    """Yield the lines of the table of what it costs and saves to call a case slower before its last launch."""
    yield "\n| against | noise | early share of alpha | called, of those slower by the tolerance "
    yield "| 3 % called, launches | 5 % | 10 % |\n" + "| --- " * 7 + "|\n"
    for count, noise, early_alpha in product((20, 5, 0), ("normal", "t"), (0.0, RULE.early_alpha)):
        yield early_row(count, noise, early_alpha, 20 * suites) + "\n"


TABLES: Final = {"suites": suites_table, "prior": prior_table, "early": early_table}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", type=int, default=200, help="simulated of each kind; default: 200")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=[*TABLES], help="default: all")
    arguments = parser.parse_args()
    for name in arguments.tables:
        for text in TABLES[name](arguments.suites):
            print(text, end="", flush=True)


if __name__ == "__main__":
    main()
