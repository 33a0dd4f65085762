"""The sentences of the answer at the end of a run: each is made by one rule, and states a fact with its number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from peftbench.claims.intervals import Interval
from peftbench.claims.standing import INFERENCE, TRAINING, Standings, Summary, standings
from peftbench.report.numbers import between, percentage
from peftbench.report.recommendation import score
from peftbench.report.x_full import FULL

if TYPE_CHECKING:
    from peftbench.claims.recommend import Choice
    from peftbench.records.record import Run

MOST_SENTENCES: Final = 5
FEW: Final = 2
"""Most methods that a sentence names one by one."""
SHAPE: Final = (
    "A preset with random weights on a CPU: the shape carries over to other models and machines (which method costs "
    "more, and where), the numbers do not."
)
WITHOUT_FULL: Final = (
    "Full fine-tuning has no numbers here: times are against the base step, and no cost is against full fine-tuning; "
    "add full to --peftbench-methods."
)


def sentences(run: Run, found: Standings, ranked: Sequence[Choice] = ()) -> list[str]:
    """Return at most `MOST_SENTENCES` sentences.

    Args:
        run: The run.
        found: The standings of its methods.
        ranked: Its methods ranked by cost to quality, if it has trainings.
    """
    last = [SHAPE] if run.notes.get("random_weights") and run.settings.get("device") == "cpu" else []
    facts = [fact for fact in _facts(run, found, ranked) if fact]
    if found.reference != FULL and found.quantities:
        facts = [*facts[:1], WITHOUT_FULL] if facts else [WITHOUT_FULL]
    return [*facts[: MOST_SENTENCES - len(last)], *last] if facts else []


def _facts(run: Run, found: Standings, ranked: Sequence[Choice]) -> Iterator[str]:
    """Yield the sentence of each rule, the most important one first; '' if a rule has nothing to say."""
    yield to_quality(ranked)
    if found.reference != FULL:
        return
    yield times(found, TRAINING)
    yield times(found, INFERENCE)
    yield memory(found)
    yield busy(found)
    yield few_weights(found)
    yield by_batch_size(run)


def times(found: Standings, name: str) -> str:
    """State which methods are faster and which are slower than full fine-tuning.

    A method is faster (slower) if the interval of its mean lies below (above) 1.
    """
    others = _others(found, name)
    title = name.capitalize()
    if len(others) < FEW:
        told = [f"{title}: {method} takes {_of(one)} of full fine-tuning's time" for method, one in others.items()]
        alike = any(one.mean.low <= 1 <= one.mean.high for one in others.values())
        return "".join(f"{fact}{', and cannot be told apart from it' if alike else ''}." for fact in told)
    below = sorted((method for method, one in others.items() if one.mean.high < 1), key=_order(others))
    above = sorted((method for method, one in others.items() if one.mean.low > 1), key=_order(others), reverse=True)
    level = len(others) - len(above) - len(below)
    if level == len(others):
        return f"{title}: none of {level} methods can be told apart from full fine-tuning."
    parts, verb = [], "is" if len(below or above) == 1 else "are"
    if below:
        parts.append(f"{verb} faster than full fine-tuning, {below[0]} most ({_of(others[below[0]])} of its time)")
    if above and not below:
        parts.append(f"{verb} slower than full fine-tuning, {above[0]} most ({_of(others[above[0]])} of its time)")
    elif 0 < len(above) <= FEW:
        named = " and ".join(f"{method} ({_of(others[method])})" for method in above)
        parts.append(f"slower {'is' if len(above) == 1 else 'are'} {named}")
    elif above:
        parts.append(f"{len(above)} are slower, {above[0]} most ({_of(others[above[0]])})")
    else:
        parts.append("none is slower" if not level else "")
    parts.append(f"{level} cannot be told apart from it" if level else "")
    return f"{title}: {len(below or above)} of {len(others)} methods {'; '.join(filter(None, parts))}."


def memory(found: Standings) -> str:
    """State the least and the most memory against full fine-tuning. It is counted, and therefore exact."""
    others = _others(found, "memory")
    if not others:
        return ""
    best, worst = min(others, key=_order(others)), max(others, key=_order(others))
    if len(others) < FEW:
        return f"Memory: {best} takes {_of(others[best])} of full fine-tuning's peak bytes (exact)."
    if others[best].mean.value == others[worst].mean.value:
        return f"Memory: all {len(others)} methods take {_of(others[best])} of full fine-tuning's peak bytes (exact)."
    less = sum(one.mean.value < 1 for one in others.values())
    return (
        f"Memory: {less} of {len(others)} methods {'needs' if less == 1 else 'need'} less than full fine-tuning, "
        f"{best} least ({_of(others[best])} of its peak bytes, exact), {worst} most ({_of(others[worst])})."
    )


def busy(found: Standings) -> str:
    """State which method leaves the GPU idle most."""
    shares = found.complete("busy")
    if not shares:
        return ""
    idle = min(shares, key=lambda method: shares[method].mean.value)
    one = shares[idle]
    span = f" ({percentage(one.least)} % to {percentage(one.most)} %)" if one.blocks > 1 else ""
    return f"Device: it is idle most with {idle}, busy for {percentage(one.mean.value)} % of the time{span}."


def few_weights(found: Standings) -> str:
    """State what the method with the fewest trained weights costs in time."""
    seconds = _others(found, TRAINING)
    shares = {method: one for method, one in _others(found, "trained").items() if one.mean.value > 0}
    known = {method: one for method, one in shares.items() if method in seconds}
    if not known:
        return ""
    fewest = min(known, key=lambda method: known[method].mean.value)
    return (
        f"Trained weights: {fewest} trains the fewest, {percentage(known[fewest].mean.value)} % of full fine-tuning's, "
        f"and takes {_of(seconds[fewest])} of its training time."
    )


def by_batch_size(run: Run) -> str:
    """State which method's cost of training changes most between the smallest and the largest batch size.

    Nothing is said of methods whose two intervals overlap.
    """
    sizes = sorted({record.batch_size for record in run.records if not record.variant})
    if len(sizes) < FEW:
        return ""
    small, large = (
        _others(standings(record for record in run.records if record.batch_size == size), TRAINING)
        for size in (sizes[0], sizes[-1])
    )
    moved = {
        method: abs(math.log(small[method].mean.value / large[method].mean.value))
        for method in small.keys() & large.keys()
        if _apart(small[method].mean, large[method].mean)
    }
    if not moved:
        return ""
    most = max(sorted(moved), key=lambda method: moved[method])
    return (
        f"Batch size: {most} changes most, from {_of(small[most])} of full fine-tuning's training time at "
        f"{sizes[0]} to {_of(large[most])} at {sizes[-1]}."
    )


def to_quality(ranked: Sequence[Choice]) -> str:
    """State which method reaches the target quality at the least cost, and which ones never reach it."""
    others = [choice for choice in ranked if choice.method != FULL]
    reached = [choice for choice in others if choice.reached and choice.score is not None]
    lost = [choice.method for choice in others if not choice.reached]
    parts = []
    if reached:
        first = reached[0]
        parts.append(f"{first.method} is cheapest, {score(first)} of full fine-tuning's seconds")
    if lost:
        named = " and ".join(lost) if len(lost) <= FEW else f"{len(lost)} of {len(others)} methods"
        parts.append(f"{named} missed it")
    return f"To the target quality: {'; '.join(parts)}." if parts else ""


def _others(found: Standings, name: str) -> Mapping[str, Summary]:
    """Return the comparable summaries of a quantity without that of full fine-tuning."""
    return {method: one for method, one in found.complete(name).items() if method != FULL}


def _order(found: Mapping[str, Summary]) -> Callable[[str], float]:
    return lambda method: found[method].mean.value


def _of(one: Summary) -> str:
    return between(one.mean)


def _apart(one: Interval, other: Interval) -> bool:
    return one.high < other.low or other.high < one.low
