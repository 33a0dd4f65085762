"""What the gate's rule promises, by simulation: false alarms, power, launches, and the time of a clean suite.

    python tools/gate_simulation.py --suites=200

Prints the tables of docs/evidence/gate-simulated.md: suspects launched again seven times at once, one launch after the
other until they are cleared, or until the launches left would hardly tell; and (as the gate does) the first of these
without siblings.
The statistics are the gate's own; only the launches are made up.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from peftbench.gate.rule import Rule
from peftbench.gate.statistics import (
    Moments,
    Shifts,
    moments,
    pending,
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


TOGETHER: Final = replace(RULE, launches_alone=0)
ONE_BY_ONE: Final = [*range(RULE.launches + 1, RULE.all_launches + 1)]
AS_THE_GATE: Final = Way("one by one, hopeless ones given up, two alone", ONE_BY_ONE)
WAYS: Final = (
    Way("all at once", [RULE.all_launches], TOGETHER),
    Way("one by one", ONE_BY_ONE, replace(TOGETHER, futility=0.0)),
    Way("one by one, hopeless ones given up", ONE_BY_ONE, TOGETHER),
    AS_THE_GATE,
)


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
    for slow in (0.03, 0.05):
        runs = [gate(*launches(kinds, spreads, drift, slow, rng), way, shared)[0] for _ in range(suites)]
        power.append(f"{np.mean([failed[SLOWED - 1 :: SLOWED] for failed in runs]):.1%}")
    spread = " and ".join(f"{part:.1%}" for part in spreads)
    return (
        f"| {spread} | {drift:.0%} | {cases} | {prior} | {way.name} | {alarms} of {suites} | {made:.2f} "
        f"| {times.mean():.2f} | {(times <= AIM).mean():.0%} | {power[0]} | {power[1]} |"
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", type=int, default=200, help="simulated of each kind; default: 200")
    suites = parser.parse_args().suites
    print(
        "| spread | drift | cases | prior by | suspects again | false alarms | launches a case | time "
        f"| at most {AIM} | 3 % found | 5 % found |\n" + "| --- " * 11 + "|"
    )
    for spread, drift in ((0.01, 0.0), (0.01, 0.02), (0.02, 0.02)):
        for cases in (24, 100):
            for way in WAYS:
                print(row(cases, [spread], drift, way, prior="kind", suites=suites))
    for cases in (24, 100):
        for prior in ("suite", "kind"):
            print(row(cases, [0.007, 0.02], 0.01, AS_THE_GATE, prior=prior, suites=suites))
    print("\n| launches of the baseline | prior by | p < 0.001, spread 0.8 % | spread 2 % |\n" + "| --- " * 4 + "|")
    for count in (5, 20):
        for prior in ("suite", "kind"):
            print(false_share(count, prior, 200 * suites))


if __name__ == "__main__":
    main()
