"""Simulates the gate's rule: false alarms, power, launches, and the time of a suite without changes.

    python tools/gate_simulation.py --suites=200

Prints the tables of docs/evidence/gate-simulated.md. The first table compares ways to launch suspects again: seven
times at once; one launch after the other until they are cleared; until further launches would hardly call them slower;
with the first of these launches without siblings; and, as the gate does, until they are certainly slower. The last
table gives the price of calling a case certainly slower: the rate of false alarms of cases that are slower by just the
tolerance, if none is cleared. The statistics are those of the gate; the launches are drawn at random.
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

from peftbench.gate.constants import Rule
from peftbench.gate.decision import Shifts, shifts, slower, staged_shift
from peftbench.gate.moments import Moments, moments, ragged_moments
from peftbench.gate.pairs import pair_shifts
from peftbench.gate.stages import Looks, certain, pending

Array = NDArray[Any]
RULE: Final = Rule()
SESSIONS: Final = 4
SLOWED: Final = 20
"""One case in `SLOWED` is slower."""
START_S: Final = 7.5
CASE_S: Final = 2.2
"""Seconds that a launch takes for its start, and for each case (--peftbench-max-time=2)."""
AIM: Final = 1.2
"""Longest time of a gate without changes, relative to its first launches."""
LATER: Final = 0.25
"""Drift between the first and the later launches, relative to the drift between sessions."""


def launches(
    kinds: Array, spreads: Sequence[float], drift: float, slow: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return the launches of a baseline and ten new ones for each case, in log units.

    They have heavy tails, and each case has its own spread.
    """
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
    """A way to launch suspects again."""

    name: str
    looks: Sequence[int]
    """Numbers of launches after which suspects are looked at."""
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
"""Pairs of all cases in lock-step. Suspects get up to twice as many more."""
SLOWER: Final = (0.03, 0.05, 0.10)


def gate(base: Array, new: Array, way: Way, kinds: Array | None) -> tuple[Array, Array, float]:
    """Return which cases fail, the number of launches of each, and the time relative to the first launches.

    Args:
        base: The accepted launches, (cases, launches).
        new: Launches that can be made, (cases, 10).
        way: How suspects are launched again.
        kinds: Kind of each case. Cases of one kind share a prior spread; with None, all cases do.
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
    """Return a row: the results of `suites` suites without changes, and of as many with slower cases."""
    rng = np.random.default_rng(0)
    kinds = (np.arange(cases) + np.arange(cases) // SLOWED) % len(spreads)  # slower cases are of each kind
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
    """Return a row: how often p is below 0.001 for unchanged cases, in each of two kinds."""
    rule, rng, spreads = replace(RULE, tolerance=0.0), np.random.default_rng(0), (0.008, 0.02)
    kinds = np.arange(24) % len(spreads)

    def made(count: int) -> Moments:
        drawn = rng.standard_t(5, (suites, len(kinds), count)) / math.sqrt(5 / 3)
        return moments(np.array(spreads)[kinds, None] * drawn)

    shared = kinds if prior == "kind" else None
    found = shifts(made(base_launches), made(rule.all_launches), np.zeros(1), rule, shared)
    low = found.p_slower < 0.001  # noqa: PLR2004 - the level of the table
    shares = " | ".join(f"{low[:, kinds == kind].mean():.2%}" for kind in range(len(spreads)))
    return f"| {base_launches} | {prior} | {shares} |"


def early_row(base_launches: int, noise: str, early_alpha: float, suites: int) -> str:
    """Return a row: how often cases are called slower at any look, and how many launches that takes.

    Args:
        base_launches: Launches of the baseline; 0 for pairs in lock-step, which have no baseline.
        noise: Distribution of the launches: normal, or t with 5 degrees of freedom.
        early_alpha: Constant of the rule.
        suites: Number of suites with 24 cases each.
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
    """Yield the lines of the table that compares one prior spread for all cases with one for each kind."""
    yield "\n| launches of the baseline | prior by | p < 0.001, spread 0.8 % | spread 2 % |\n" + "| --- " * 4 + "|\n"
    for count, prior in product((5, 20), ("suite", "kind")):
        yield false_share(count, prior, 200 * suites) + "\n"


def early_table(suites: int) -> Iterator[str]:
    """Yield the lines of the table of false alarms and launches if cases are called slower before the last launch."""
    yield "\n| against | noise | early share of alpha | called, of those slower by the tolerance "
    yield "| 3 % called, launches | 5 % | 10 % |\n" + "| --- " * 7 + "|\n"
    for count, noise, early_alpha in product((20, 5, 0), ("normal", "t"), (0.0, RULE.early_alpha)):
        yield early_row(count, noise, early_alpha, 20 * suites) + "\n"


TABLES: Final = {"suites": suites_table, "prior": prior_table, "early": early_table}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", type=int, default=200, help="number of simulated suites of each kind; default: 200")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=[*TABLES], help="tables to print; default: all")
    arguments = parser.parse_args()
    for name in arguments.tables:
        for text in TABLES[name](arguments.suites):
            print(text, end="", flush=True)


if __name__ == "__main__":
    main()
