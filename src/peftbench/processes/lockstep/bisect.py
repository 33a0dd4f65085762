"""At which of many states in a row a case became worse: the search, which knows neither processes nor git."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from peftbench.gate.origin import Origin

Worse = Callable[[int, Sequence[str]], AbstractSet[str] | None]
"""Tells which of some cases are worse at a place than at the first one; None where the place cannot be had."""


def first_worse(count: int, cases: Sequence[str], worse: Worse) -> dict[str, tuple[int, int]]:
    """Return for each case the neighbouring places between which it became worse: the last good, the first bad one.

    The first place is good and the last is bad for every case; between, a case that is worse is taken to stay so. Each
    place is asked for the cases alone that it can tell more of. A place that cannot be had is passed over, so that two
    places need not be neighbours.

    Args:
        count: How many places there are, at least two.
        cases: The cases.
        worse: Asked for places that are neither the first nor the last.
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


def origins(places: Sequence[str], found: Mapping[str, tuple[int, int]]) -> tuple[Origin, ...]:
    """Return what was found with the names of the places."""
    return tuple(
        Origin(case, places[good], places[bad], tuple(places[good + 1 : bad])) for case, (good, bad) in found.items()
    )
