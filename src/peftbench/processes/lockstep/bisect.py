"""Searches the state at which a case became worse, in a sequence of states. It knows neither processes nor git."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from peftbench.gate.origin import WorseSince

Worse = Callable[[int, Sequence[str]], AbstractSet[str] | None]
"""Returns which of some cases are worse at a place than at the first place; None if the place cannot be made."""


def first_worse(count: int, cases: Sequence[str], worse: Worse) -> dict[str, tuple[int, int]]:
    """Return for each case its last good and its first bad place.

    The first place is good and the last place is bad for every case. A case that is worse is assumed to stay worse.
    `worse` is called for a place with only those cases that the place can decide. A place that cannot be made is
    skipped, so that the two places of a case need not be neighbours.

    Args:
        count: Number of places, at least two.
        cases: The cases.
        worse: Called for places that are neither the first nor the last.
    """
    found: dict[str, tuple[int, int]] = {}
    open_: list[tuple[int, int, list[str]]] = [(0, count - 1, list(cases))]
    gone: set[int] = set()
    while open_:
        good, bad, left = open_.pop()
        place = next((place for place in _from_middle(good, bad) if place not in gone), None)
        if place is None:
            found |= dict.fromkeys(left, (good, bad))
            continue
        told = worse(place, left)
        if told is None:
            gone.add(place)
            open_.append((good, bad, left))
            continue
        halves = (
            (place, bad, [case for case in left if case not in told]),
            (good, place, [case for case in left if case in told]),
        )
        open_ += [half for half in halves if half[2]]
    return {case: found[case] for case in cases}


def _from_middle(good: int, bad: int) -> Iterator[int]:
    """Yield the places between two, from the middle outwards."""
    middle = (good + bad) // 2
    yield from sorted(range(good + 1, bad), key=lambda place: abs(place - middle))


def origins(places: Sequence[str], found: Mapping[str, tuple[int, int]]) -> tuple[WorseSince, ...]:
    """Return the origin of each case, with the names of the places."""
    return tuple(
        WorseSince(case, places[good], places[bad], tuple(places[good + 1 : bad]))
        for case, (good, bad) in found.items()
    )
